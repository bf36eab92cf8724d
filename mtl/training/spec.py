"""Everything one run is made of, built and checked, before data is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mtl.datasets.base import DataModule
from mtl.strategies import MakeOptimizer, Strategy
from mtl.tracking import TrackingSettings
from mtl.training.settings import TrainerSettings


@dataclass(frozen=True)
class RunSpec:
    """The parts of one run.

    Attributes:
        names: Names of the chosen configs: dataset, backbone, heads, strategy, optimizer, scheduler, experiment.
        config: The resolved configuration as plain data; written to config.yaml and hashed.
        seed: Origin of all randomness.
        data: Not yet read.
        backbone: (input_shape, tasks) -> backbone.
        head: (in_features, num_outputs) -> head.
        strategy: Not yet set up.
        make_optimizer: Parameters or groups -> a new optimizer.
        make_scheduler: Optimizer -> scheduler; None for a constant learning rate.
        scheduler_interval: `epoch` or `step`.
        trainer: Loop settings.
        tracking: Record settings.
        plugins: Packages outside mtl that parts come from: name -> directory.
    """

    names: Mapping[str, str]
    config: Mapping[str, Any]
    seed: int
    data: DataModule
    backbone: Callable[..., nn.Module]
    head: Callable[..., nn.Module]
    strategy: Strategy
    make_optimizer: MakeOptimizer
    make_scheduler: Callable[[Optimizer], LRScheduler] | None
    scheduler_interval: str
    trainer: TrainerSettings
    tracking: TrackingSettings
    plugins: Mapping[str, Path] = field(default_factory=dict)
