"""What a search chooses from, in Hydra's override grammar."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer

from mtl.errors import ConfigError

GRAMMAR = (
    "`KEY=tag(log, interval(1e-4, 1e-1))` (a number, on a logarithmic scale), `KEY=interval(0, 1)`, "
    "`KEY=int(interval(1, 8))`, `KEY=range(1, 9, 2)`, `KEY=a,b,c`"
)


def split_space(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Distributions of Optuna for what is searched, and the overrides that every trial has.

    Raises:
        ConfigError: Nothing is searched, or something that cannot be.
    """
    space, fixed = {}, []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override():
            space[override.get_key_element()] = distribution(override)
        else:
            fixed.append(str(override.input_line))
    if not space:
        raise ConfigError(f"Nothing is searched. Give one or more of {GRAMMAR}.")
    if {"seed"} & set(space):
        raise ConfigError("`seed` is no choice: a trial runs with all of `seeds=0,1`, and its score is their mean.")
    return space, fixed


def distribution(override: Override) -> Any:
    """The distribution of Optuna for one override."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value, key = override.value(), override.get_key_element()
    if isinstance(value, IntervalSweep):
        start, end, log = value.start, value.end, "log" in value.tags
        if start is None or end is None or not start < end or (log and start <= 0):
            raise ConfigError(f"`{override.input_line}` should go from a smaller to a larger number, positive if log.")
        if isinstance(start, int) and isinstance(end, int) and _is_whole(override):
            return IntDistribution(start, end, log=log)
        return FloatDistribution(float(start), float(end), log=log)
    if isinstance(value, RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if isinstance(value, ChoiceSweep):
        return CategoricalDistribution([str(text) for text in override.sweep_iterator(Transformer.encode)])
    raise ConfigError(f"`{key}` cannot be searched as `{override.input_line}`. Give one of {GRAMMAR}.")


def _is_whole(override: Override) -> bool:
    return "int(" in str(override.input_line).partition("=")[2].replace(" ", "")


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's choices as overrides."""
    return [f"{key}={value!r}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]
