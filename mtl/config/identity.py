"""Which sweep a command line means: the same jobs in another order are the same sweep."""

import hashlib
import json
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import OmegaConf

JOBS = ("hydra.sweeper.", "hydra/sweeper")
"""Of Hydra's own settings, those that decide which jobs there are; others (launcher, directories) may change."""


def register() -> None:
    """Make `${sweep_name:...}` available to configs/train.yaml."""
    OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


def sweep_name(task: Sequence[str], hydra: Sequence[str]) -> str:
    """The name of a sweep's directory: something to read, and a digest of what was asked for.

    Args:
        task: Overrides of the configuration.
        hydra: Overrides of Hydra's own settings.
    """
    values = canonical([*task, *(override for override in hydra if override.startswith(JOBS))])
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
    named = [key.rpartition(".")[2] for key, choices in values if len(choices) > 1]
    table = [choices[0].replace("/", "_") for key, choices in values if key == "sweep"]
    readable = "_".join(table or named or ["job"])
    return f"{''.join(c for c in readable if c.isalnum() or c in '_-')[:60]}-{digest}"


def canonical(overrides: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Key -> values as text; equal for command lines that mean the same set of jobs.

    The last override of a key holds, as in Hydra; values are a set. Keys are sorted, unless one sets a part of a node
    that a later one sets as a whole: there the order has a meaning.
    """
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([str(text) for text in overrides]):
        key = override.get_key_element()
        values.pop(key, None)
        values[key] = _choices(override)
    keys = list(values)
    undone = any(early.startswith(f"{late}.") for i, late in enumerate(keys) for early in keys[:i])
    return list(values.items()) if undone else sorted(values.items())


def _choices(override: Override) -> list[str]:
    if override.is_discrete_sweep() and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        return sorted({str(value) for value in override.sweep_string_iterator()})
    if override.is_sweep_override():
        return [str(override.value())]
    return [override.get_value_element_as_str()]


def as_mapping(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> value as text, of one job."""
    return {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
