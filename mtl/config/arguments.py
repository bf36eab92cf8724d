"""KEY=VALUE arguments of a command, of which those that it does not know go to the jobs."""

from collections.abc import Sequence

from mtl.errors import ConfigError


def split_arguments(
    arguments: Sequence[str], keys: Sequence[str], switches: Sequence[str], usage: str
) -> tuple[dict[str, str], dict[str, bool], tuple[str, ...]]:
    """The values of `keys`, the `switches` among them that are given, and all other arguments.

    Raises:
        ConfigError: An argument has no value, or a switch is neither true nor false.
    """
    values: dict[str, str] = {}
    others = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not value:
            raise ConfigError(f"Arguments are KEY=VALUE: {usage}. Found `{argument}`.")
        if key in keys:
            values[key] = value
        else:
            others.append(argument)
    for key in switches:
        if values.get(key, "false").lower() not in ("true", "false"):
            raise ConfigError(f"`{key}` should be true or false. Found `{values[key]}`.")
    return values, {key: values[key].lower() == "true" for key in switches if key in values}, tuple(others)
