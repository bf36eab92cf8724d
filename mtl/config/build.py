"""From a composed configuration to the parts of a run. The only place that instantiates anything."""

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mtl.config.check import check_fields, check_node
from mtl.config.plugins import config_directory as config_directory
from mtl.config.plugins import used_plugins
from mtl.config.schema import PathSettings, Root, SchedulerSettings
from mtl.datasets.base import DataModule
from mtl.errors import ConfigError, UserError
from mtl.strategies import Strategy
from mtl.tracking import DiagnosticsSettings, TrackingSettings
from mtl.training import RunSpec, TrainerSettings
from mtl.validation import check_choice, check_count, check_non_negative

TYPED = {
    "": Root,
    "trainer": TrainerSettings,
    "tracking": TrackingSettings,
    "tracking.diagnostics": DiagnosticsSettings,
    "paths": PathSettings,
    "scheduler": SchedulerSettings,
}
"""Nodes of the schema; `+key=value` on the command line would slip past it."""
SUPPLIED = {
    "backbone": ("input_shape", "tasks"),
    "heads": ("in_features", "num_outputs", "output_size"),
    "optimizer": ("params",),
}
"""Arguments that the framework gives to what a group builds."""
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
        check_fields(reduce(operator.getitem, node.split(".") if node else [], config), kind, node)
    check_count("seed", cfg.seed, minimum=0)
    if config["resume"] is not None:
        raise ConfigError("`resume` is given as `resume=RUN_DIR` alone, and takes everything from that directory.")
    for group in ("dataset", "backbone", "heads", "strategy", "optimizer"):
        check_node(config[group], group, SUPPLIED.get(group, ()))
    scheduler = config["scheduler"]
    check_choice("scheduler.interval", scheduler["interval"], ("epoch", "step"))
    if scheduler["factory"] is not None:
        check_node(scheduler["factory"], "scheduler.factory", ("optimizer",))
        in_epochs = "T_max" in scheduler["factory"] and OmegaConf.is_interpolation(cfg.scheduler.factory, "T_max")
        if scheduler["interval"] == "step" and in_epochs:
            raise ConfigError("`T_max` is in epochs here; with `scheduler.interval=step` give it in steps.")
    trainer, tracking = OmegaConf.to_object(cfg.trainer), OmegaConf.to_object(cfg.tracking)
    assert isinstance(trainer, TrainerSettings)
    assert isinstance(tracking, TrackingSettings)
    _try_optimizer(config["optimizer"], scheduler["factory"])
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
        plugins=used_plugins(config),
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


def _try_optimizer(node: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> None:
    """Two trial steps, so that what optimizer and scheduler refuse is refused before a model is built."""
    import torch

    if "lr" in node:
        check_non_negative("optimizer.lr", node["lr"])
    names, trial = ["optimizer"], torch.nn.Parameter(torch.zeros(1))
    trial.grad = torch.ones(1)
    try:
        optimizer = _build(node, "optimizer")([trial])
        optimizer.step()
        if scheduler is not None:
            check_non_negative("scheduler.factory.gamma", scheduler.get("gamma", 0))
            names = ["scheduler.factory"]
            advancing = _build(scheduler, "scheduler.factory")(optimizer)
            if isinstance(advancing, torch.optim.lr_scheduler.ReduceLROnPlateau):
                raise ConfigError("ReduceLROnPlateau needs a metric; use a scheduler that depends on the step alone.")
            for _ in range(2):
                optimizer.step()
                advancing.step()
                if not all(group["lr"] >= 0 for group in optimizer.param_groups):
                    raise ValueError("the learning rate became negative")
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, LookupError) as error:
        if isinstance(error, ConfigError):
            raise
        refused = node if names == ["optimizer"] else scheduler
        assert refused is not None
        found = {key: value for key, value in refused.items() if not str(key).startswith("_")}
        raise ConfigError(f"`{names[0]}` was refused by {refused['_target_']}: {error}. Found {found}.") from error
