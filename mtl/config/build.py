"""From a composed configuration to the parts of a run. The only place that instantiates anything."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from mtl.config.schema import PathSettings, Root, SchedulerSettings
from mtl.datasets.base import DataModule
from mtl.errors import ConfigError, UserError
from mtl.strategies import Strategy
from mtl.tracking import TrackingSettings
from mtl.training import RunSpec, TrainerSettings
from mtl.validation import check_choice, check_count, check_non_negative

ALLOWED_TARGETS = ("mtl.", "torch.", "torchjd.", "tests.")
TYPED = {
    "": Root,
    "trainer": TrainerSettings,
    "tracking": TrackingSettings,
    "paths": PathSettings,
    "scheduler": SchedulerSettings,
}
"""Nodes of the schema; `+key=value` on the command line would slip past it."""
GROUPS = ("dataset", "backbone", "heads", "strategy", "optimizer", "scheduler")


def build_spec(cfg: DictConfig, names: Mapping[str, str]) -> RunSpec:
    """Check the configuration and build everything that needs no data.

    Args:
        cfg: Composed from configs/train.yaml.
        names: Name of the chosen config of each group.

    Raises:
        UserError: with what is wrong, the value found and what would be right.
    """
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigError(f"No value was given for {', '.join(sorted(missing))}.")
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    for node, kind in TYPED.items():
        _check_fields(config if not node else config[node], kind, node)
    check_count("seed", cfg.seed, minimum=0)
    for group in ("dataset", "backbone", "heads", "strategy", "optimizer"):
        _check_node(config[group], group)
    scheduler = config["scheduler"]
    check_choice("scheduler.interval", scheduler["interval"], ("epoch", "step"))
    if scheduler["factory"] is not None:
        _check_node(scheduler["factory"], "scheduler.factory")
    trainer, tracking = OmegaConf.to_object(cfg.trainer), OmegaConf.to_object(cfg.tracking)
    assert isinstance(trainer, TrainerSettings)
    assert isinstance(tracking, TrackingSettings)
    _check_optimizer(config["optimizer"])
    data, strategy = _build(config["dataset"], "dataset"), _build(config["strategy"], "strategy")
    if not isinstance(data, DataModule):
        raise ConfigError(f"`dataset._target_ = {config['dataset']['_target_']}` is not a DataModule.")
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"`strategy._target_ = {config['strategy']['_target_']}` is not a Strategy.")
    return RunSpec(
        names={**{group: names.get(group, "?") for group in GROUPS}, "experiment": cfg.experiment_name},
        config=_public(config),
        seed=cfg.seed,
        data=data,
        backbone=_build(config["backbone"], "backbone"),
        head=_build(config["heads"], "heads"),
        strategy=strategy,
        make_optimizer=_build(config["optimizer"], "optimizer"),
        make_scheduler=None if scheduler["factory"] is None else _build(scheduler["factory"], "scheduler.factory"),
        scheduler_interval=scheduler["interval"],
        trainer=trainer,
        tracking=tracking,
    )


def config_text(cfg: DictConfig, names: Mapping[str, str]) -> str:
    """The resolved configuration as YAML, with the names of its parts: the content of config.yaml."""
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return OmegaConf.to_yaml(OmegaConf.create({"names": dict(names), **_public(config)}))


def _public(config: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in config.items() if key not in ("hydra", "resume")}


def _build(node: Mapping[str, Any], path: str) -> Any:
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise type(cause)(f"In `{path}`: {cause}") if not cause.args[1:] else cause from error
        raise ConfigError(f"`{path}` cannot be built: {cause or error}") from error


def _check_node(node: Any, path: str) -> None:
    """Check targets and keys of a node and of all nodes below it against what they build."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"`{path}` should be a group of keys with a `_target_`. Found `{node!r}`.")
    if "_target_" not in node:
        raise ConfigError(f"`{path}` has no `_target_`. Found the keys {', '.join(map(str, node)) or 'none'}.")
    target = str(node["_target_"])
    if not target.startswith(ALLOWED_TARGETS):
        raise ConfigError(f"`{path}._target_ = {target}` should begin with one of {', '.join(ALLOWED_TARGETS)}.")
    try:
        built = get_object(target)
    except Exception as error:
        raise ConfigError(f"`{path}._target_ = {target}` cannot be imported: {error}") from error
    parameters = inspect.signature(built).parameters
    keys = [key for key in node if not str(key).startswith("_")]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        valid = [name for name in parameters if name != "self"]
        for key in keys:
            if key not in parameters:
                raise ConfigError(unknown_key(str(key), valid, path))
    if not node.get("_partial_", False):
        required = [
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in keys
        ]
        if required:
            raise ConfigError(f"`{path}` lacks {', '.join(required)}, which {target} needs.")
    for key in keys:
        if isinstance(node[key], Mapping) and "_target_" in node[key]:
            _check_node(node[key], f"{path}.{key}")


def _check_fields(node: Mapping[Any, Any], kind: type, path: str) -> None:
    valid = [item.name for item in fields(kind)]
    for key in node:
        if key not in valid:
            raise ConfigError(unknown_key(str(key), valid, path))


def _check_optimizer(node: Mapping[str, Any]) -> None:
    """Reject what the optimizer itself would reject, before a model is built."""
    import torch

    if "lr" in node:
        check_non_negative("optimizer.lr", node["lr"])
    factory = _build(node, "optimizer")
    try:
        factory([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, RuntimeError) as error:
        found = {key: value for key, value in node.items() if not str(key).startswith("_")}
        raise ConfigError(f"`optimizer` was refused by {node['_target_']}: {error}. Found {found}.") from error


def unknown_key(key: str, valid: list[str], where: str) -> str:
    """The message for a key that does not exist."""
    close = difflib.get_close_matches(key, valid, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    place = f" of `{where}`" if where else " at the top level"
    return f"Unknown key `{key}`. The valid keys{place} are {', '.join(valid)}.{hint}"


def config_directory() -> Path:
    """The configs/ directory of this checkout."""
    return Path(__file__).parents[2] / "configs"
