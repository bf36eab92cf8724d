"""Checks of constructor arguments, each one line at the caller and one sentence for the user."""

import math
from collections.abc import Collection

from mtl.errors import ConfigError


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"Parameter `{name}` should be one of {', '.join(choices)}. Found `{name} = {value!r}`.")


def check_number(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a finite number."""
    if not _is_number(value) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ConfigError(f"Parameter `{name}` should be a finite number. Found `{name} = {value!r}`.")


def check_positive(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a finite number > 0."""
    if not _is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ConfigError(f"Parameter `{name}` should be a finite number > 0. Found `{name} = {value!r}`.")


def check_non_negative(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a finite number >= 0."""
    if not _is_number(value) or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ConfigError(f"Parameter `{name}` should be a finite number >= 0. Found `{name} = {value!r}`.")


def check_fraction(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a number in [0, 1]."""
    if not _is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ConfigError(f"Parameter `{name}` should be a number in [0, 1]. Found `{name} = {value!r}`.")


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise ConfigError unless `value` is an integer >= `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(f"Parameter `{name}` should be an integer >= {minimum}. Found `{name} = {value!r}`.")


def check_bool(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"Parameter `{name}` should be true or false. Found `{name} = {value!r}`.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
