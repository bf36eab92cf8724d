"""Sweeps as lists of jobs: what `train.py -m sweep=NAME` would run, with the hashes its runs will have."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from mtl.config import schema
from mtl.config.build import GROUPS, config_directory
from mtl.config.plugins import find_configs
from mtl.errors import ConfigError
from mtl.results.definition import TableDefinition, TableRow
from mtl.results.plan import PlannedRun
from mtl.training.provenance import config_hash, setting_hash


@dataclass(frozen=True)
class Plan:
    """All jobs of a table.

    Attributes:
        jobs: In the order of its rows.
        parameters: Sweep -> parameter -> its values as the file has them, joined by commas.
        fixed: Overrides that are no parameter of any sweep, so that every job has them.
        unavailable: Why nothing can be planned; empty otherwise.
    """

    jobs: tuple[PlannedRun, ...]
    parameters: Mapping[str, Mapping[str, str]]
    unavailable: str = ""
    fixed: tuple[str, ...] = ()


def plan_table(definition: TableDefinition, overrides: Sequence[str] = ()) -> Plan:
    """The jobs of all sweeps of a table.

    Args:
        definition: The table.
        overrides: For every job; those of a sweep's parameter replace its values, as on Hydra's command line.

    Raises:
        ConfigError: A sweep has no `strategy` or `seed` among its parameters, `strategy` is overridden, or a row's
            `where` names none of its sweep's parameters.
    """
    if any(override.startswith("strategy=") for override in overrides):
        raise ConfigError("A table's strategies come from its rows: give `rows=LABEL,LABEL` instead of `strategy=`.")
    if missing := _missing(definition):
        return Plan((), {}, missing)
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        try:
            sweeps = dict.fromkeys(row.sweep for row in definition.rows if row.sweep is not None)
            parameters = {sweep: _parameters(sweep) for sweep in sweeps}
            swept = {key for one in parameters.values() for key in one}
            fixed = tuple(override for override in overrides if override.split("=", 1)[0] not in swept)
            given = dict(override.split("=", 1) for override in overrides if override not in fixed)
            jobs = [job for sweep in sweeps for job in _jobs(definition, sweep, parameters[sweep], given, fixed)]
        except (MissingConfigException, ConfigCompositionException) as error:
            if overrides:
                raise
            return Plan((), {}, str(error).splitlines()[0])
    order = [row.label for row in definition.rows]
    return Plan(tuple(sorted(jobs, key=lambda job: order.index(job.row))), parameters, fixed=fixed)


def table_state(definition: TableDefinition) -> str | int:
    """Number of jobs of a table, or why there can be none; composes nothing, so it is quick.

    With `choose_on`, of the comparison alone: what follows depends on what it chooses.
    """
    if missing := _missing(definition):
        return missing
    count = 0
    for sweep in dict.fromkeys(row.sweep for row in definition.rows if row.sweep is not None):
        values = {key: _elements(key, text) for key, text in _parameters(sweep).items()}
        rows = _rows(definition, sweep, list(values))
        points = _points(values, list(values))
        if definition.choose_on:
            points = [point for point in points if int(point["seed"]) in definition.choose_on]
        count += sum(row.takes(point) for point in points for row in rows)
    return count


def _missing(definition: TableDefinition) -> str:
    for group, name in (("dataset", definition.dataset), ("experiment", definition.experiment)):
        if name not in find_configs(group, f"{name}.yaml"):
            return f"{group} config `{name}` not available"
    return ""


def _parameters(sweep: str) -> dict[str, str]:
    """What a sweep's own file gives; a sweep inherits none from another."""
    path = find_configs("sweep", f"{sweep}.yaml").get(sweep)
    if path is None:
        raise ConfigError(f"There is no sweep `{sweep}`: {config_directory()}/sweep/{sweep}.yaml is missing.")
    params = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params") or {}
    parameters = {str(key): str(value) for key, value in params.items()}
    for key in ("strategy", "seed"):
        if key not in parameters:
            raise ConfigError(f"Sweep `{sweep}` should give `{key}` in hydra.sweeper.params. Found {list(parameters)}.")
    return parameters


def _jobs(
    definition: TableDefinition,
    sweep: str,
    parameters: Mapping[str, str],
    given: Mapping[str, str],
    fixed: Sequence[str],
) -> list[PlannedRun]:
    values = {key: _elements(key, given.get(key, text)) for key, text in parameters.items()}
    groups = [key for key in values if key in GROUPS]
    rest = [key for key in values if key not in groups and key != "seed"]
    own = _rows(definition, sweep, [*groups, *rest])
    jobs = []
    for names in _points(values, groups):
        points = [names | point for point in _points(values, rest)]
        taken = [(chosen, rows) for chosen in points if (rows := [row for row in own if row.takes(chosen)])]
        if not taken:
            continue
        base = compose("train", overrides=[f"sweep={sweep}", *(f"{k}={v}" for k, v in names.items()), *fixed])
        first: dict[str, Any] = {}
        alike = _independent(base, rest)
        for chosen, rows in taken:
            varied = {key: chosen[key] for key in rest}
            config = _variant(first, varied) if first and alike else _resolved(base, varied)
            first = first or config
            hashes = config_hash(config), setting_hash(config)
            for seed in values["seed"]:
                text = {key: (chosen | {"seed": seed})[key] for key in parameters}
                jobs += [PlannedRun(row.label, sweep, text, int(seed), *hashes, config) for row in rows]
    return jobs


def _rows(definition: TableDefinition, sweep: str, keys: Sequence[str]) -> list[TableRow]:
    own = [row for row in definition.rows if row.sweep == sweep]
    for row in own:
        if unknown := sorted(set(row.where) - set(keys)):
            raise ConfigError(
                f"Row `{row.label}` of {definition.name}: `where` names {', '.join(unknown)}. Parameters of the sweep "
                f"`{sweep}` are {', '.join(keys)}."
            )
    return own


def _points(values: Mapping[str, Sequence[str]], keys: Sequence[str]) -> list[dict[str, str]]:
    return [dict(zip(keys, point, strict=True)) for point in itertools.product(*(values[key] for key in keys))]


def _elements(key: str, text: str) -> list[str]:
    """The values of a parameter, as text."""
    override = OverridesParser.create().parse_override(f"{key}={text}")
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _resolved(base: DictConfig, values: Mapping[str, str]) -> dict[str, Any]:
    cfg = base.copy()
    for key, text in values.items():
        OmegaConf.update(cfg, key, _value(key, text), merge=True)
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items() if key not in ("hydra", "resume")}


def _value(key: str, text: str) -> Any:
    return OverridesParser.create().parse_override(f"{key}={text}").value()


def _variant(config: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """`config` with other values of keys that it has; many times faster than resolving it again."""
    changed = dict(config)
    for key, text in values.items():
        node = changed
        *parents, last = key.split(".")
        for parent in parents:
            node[parent] = dict(node[parent])
            node = node[parent]
        node[last] = _value(key, text)
    return changed


def _independent(base: DictConfig, keys: Sequence[str]) -> bool:
    """Whether a new value of `keys` changes nothing else: they hold no mapping, and nothing refers to their group."""
    text = OmegaConf.to_yaml(base)
    groups = {key.partition(".")[0] for key in keys}
    return (
        groups <= set(GROUPS)
        and not any(f"${{{group}" in text for group in groups)
        and not any(OmegaConf.is_dict(OmegaConf.select(base, key)) for key in keys)
    )
