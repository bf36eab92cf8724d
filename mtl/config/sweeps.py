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
from mtl.errors import ConfigError
from mtl.results.definition import TableDefinition
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
        ConfigError: A sweep has no `strategy` or `seed` among its parameters, or `strategy` is overridden.
    """
    if any(override.startswith("strategy=") for override in overrides):
        raise ConfigError("A table's strategies come from its rows: give `rows=LABEL,LABEL` instead of `strategy=`.")
    directory = config_directory()
    for group, name in (("dataset", definition.dataset), ("experiment", definition.experiment)):
        if not (directory / group / f"{name}.yaml").is_file():
            return Plan((), {}, f"{group} config `{name}` not available")
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(directory)):
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


def _parameters(sweep: str) -> dict[str, str]:
    """What a sweep's own file gives; a sweep inherits none from another."""
    path = config_directory() / "sweep" / f"{sweep}.yaml"
    if not path.is_file():
        raise ConfigError(f"There is no sweep `{sweep}`: {path} is missing.")
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
    jobs = []
    for choice in itertools.product(*(values[key] for key in groups)):
        names = dict(zip(groups, choice, strict=True))
        rows = [row for row in definition.rows if row.sweep == sweep and row.strategy in (None, names["strategy"])]
        if not rows:
            continue
        base = compose("train", overrides=[f"sweep={sweep}", *(f"{k}={v}" for k, v in names.items()), *fixed])
        for point in itertools.product(*(values[key] for key in rest)):
            chosen = names | dict(zip(rest, point, strict=True))
            config = _resolved(base, {key: chosen[key] for key in rest})
            hashes = config_hash(config), setting_hash(config)
            for seed in values["seed"]:
                text = {key: (chosen | {"seed": seed})[key] for key in parameters}
                jobs += [PlannedRun(row.label, sweep, text, int(seed), *hashes, config) for row in rows]
    return jobs


def _elements(key: str, text: str) -> list[str]:
    """The values of a parameter, as text."""
    override = OverridesParser.create().parse_override(f"{key}={text}")
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _resolved(base: DictConfig, values: Mapping[str, str]) -> dict[str, Any]:
    cfg = base.copy()
    for key, text in values.items():
        OmegaConf.update(cfg, key, OverridesParser.create().parse_override(f"{key}={text}").value(), merge=True)
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items() if key not in ("hydra", "resume")}
