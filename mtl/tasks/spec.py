"""The description of one task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from mtl.tasks.losses import Loss
from mtl.tasks.metrics import MakeMetric


@dataclass(frozen=True)
class TaskSpec:
    """One task: its head's output size, its loss, its metrics.

    Attributes:
        name: Unique among the tasks of a data set; also the key of its target in a batch.
        num_outputs: Outputs of its head per sample (classes, channels).
        kind: "classification" or "regression"; some weightings treat the two differently.
        loss: (prediction, target) -> scalar.
        metrics: Name -> constructor taking a device. The first one is the primary metric.
        dense: Whether predictions are maps (B, num_outputs, H, W).
    """

    name: str
    num_outputs: int
    kind: Literal["classification", "regression"]
    loss: Loss
    metrics: Mapping[str, MakeMetric]
    dense: bool = False

    @property
    def primary_metric(self) -> str:
        """The metric that model selection and summary tables use."""
        return next(iter(self.metrics))

    def higher_is_better(self, metric: str) -> bool:
        """Whether a larger value of `metric` is better."""
        return self.metrics[metric](torch.device("cpu")).higher_is_better
