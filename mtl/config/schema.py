"""The typed root of every configuration: a key that is not here is an error."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from mtl.config import plugins
from mtl.tracking.settings import TrackingSettings
from mtl.training.settings import TrainerSettings


@dataclass
class PathSettings:
    """Where data sets lie and where run directories go."""

    data_dir: str = MISSING
    output_dir: str = MISSING


@dataclass
class SchedulerSettings:
    """A learning-rate scheduler: how often it advances, and how it is built."""

    interval: str = "epoch"
    factory: Any = None


@dataclass
class Root:
    """One run. Groups that can be many things (`Any`) are checked against what they build."""

    dataset: Any = MISSING
    backbone: Any = MISSING
    heads: Any = MISSING
    strategy: Any = MISSING
    optimizer: Any = MISSING
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    experiment_name: str = "default"
    seed: int = 0
    resume: str | None = None


def register() -> None:
    """Make the schema, and the configs of plugins, available to Hydra."""
    ConfigStore.instance().store(name="schema", node=Root)
    plugins.register()
