"""Checks of configuration nodes against what they build, before anything is built."""

import difflib
import importlib.util
import inspect
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from hydra.utils import get_object

from mtl.config.plugins import VARIABLE, plugin_packages
from mtl.errors import ConfigError

ALLOWED_TARGETS = ("mtl.", "torch.", "torchjd.")
SPECIAL_KEYS = ("_target_", "_partial_")
WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "null",
}
NUMBERS: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


def check_node(node: Any, path: str, supplied: Collection[str] = ()) -> None:
    """Check target, keys and simple types of a node and of all nodes below it.

    Args:
        node: A mapping with a `_target_`.
        path: Where it stands, for messages.
        supplied: Arguments that the framework gives; they cannot be configured.

    Raises:
        ConfigError: with the valid keys or types.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(f"`{path}` should be a group of keys with a `_target_`. Found `{node!r}`.")
    if "_target_" not in node:
        raise ConfigError(f"`{path}` has no `_target_`. Found the keys {', '.join(map(str, node)) or 'none'}.")
    target = str(node["_target_"])
    allowed = (*ALLOWED_TARGETS, *(f"{name}." for name in plugin_packages()))
    if not target.startswith(allowed):
        raise ConfigError(
            f"`{path}._target_ = {target}` should begin with one of {', '.join(allowed)} For a package of your own, "
            f"name its directory in the environment: `export {VARIABLE}=path/to/{target.partition('.')[0]}`."
        )
    package = target.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"`{path}._target_ = {target}` needs the package {package}, which is not installed. Install it with "
            f"`pip install {package}`, or choose another `_target_`."
        )
    try:
        built = get_object(target)
    except Exception as error:
        raise ConfigError(f"`{path}._target_ = {target}` cannot be imported: {error}") from error
    parameters = inspect.signature(built).parameters
    hints = _hints(built)
    valid = [name for name in parameters if name != "self" and name not in supplied]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in node.items():
        if key in SPECIAL_KEYS:
            continue
        if key not in valid and not open_ended:
            raise ConfigError(unknown_key(str(key), valid, path))
        check_value(value, hints.get(str(key), Any), f"{path}.{key}")
    if not node.get("_partial_", False):
        needed = [name for name in valid if parameters[name].default is inspect.Parameter.empty and name not in node]
        if needed and not open_ended:
            raise ConfigError(f"`{path}` lacks {', '.join(needed)}, which {target} needs.")


def check_value(value: Any, hint: Any, path: str) -> None:
    """Check a value against a type hint, as far as the hint is one of the simple ones."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, Mapping) and "_target_" in value:
        check_node(value, path)
        return
    if any(_accepts(option, value) for option in options):
        return
    names = " or ".join(WORDS.get(option, getattr(option, "__name__", str(option))) for option in options)
    parts = [o for o in options if inspect.isclass(o) and o.__module__.startswith("mtl.")]
    hint_text = " (a group of keys with a `_target_`)" if parts else ""
    raise ConfigError(f"`{path}` should be {names}{hint_text}. Found `{path} = {value!r}`.")


def _accepts(option: Any, value: Any) -> bool:
    if option is None or option is type(None):
        return value is None
    if option in NUMBERS:
        return isinstance(value, NUMBERS[option]) and (option is bool or not isinstance(value, bool))
    origin = typing.get_origin(option) or option
    if origin in (tuple, list, Sequence):
        return isinstance(value, Sequence) and not isinstance(value, str)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if inspect.isclass(option) and option.__module__.startswith("mtl."):
        return False  # a node with a target; handled by the caller
    return not (inspect.isclass(option) and option.__name__ == "Tensor")


def _hints(built: Any) -> dict[str, Any]:
    function = built.__init__ if inspect.isclass(built) else built
    try:
        return typing.get_type_hints(function)
    except Exception:  # hints of foreign code may not resolve; then only keys are checked
        return {}


def check_fields(node: Mapping[Any, Any], kind: type, path: str) -> None:
    """Check the keys of a node of the schema: `+key=value` on the command line would slip past Hydra's check."""
    valid = [item.name for item in fields(kind)]
    for key in node:
        if key not in valid:
            raise ConfigError(unknown_key(str(key), valid, path))


def unknown_key(key: str, valid: Sequence[str], where: str) -> str:
    """The message for a key that does not exist."""
    close = difflib.get_close_matches(key, valid, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    place = f" of `{where}`" if where else " at the top level"
    listing = f"The valid keys{place} are {', '.join(valid)}." if valid else f"`{where}` takes no keys here."
    return f"Unknown key `{key}`. {listing}{hint}"
