"""What a metric is: sums that add up over batches and processes, and one number out of them at the end of a split."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property

import torch
from torch import Tensor

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""State name -> shape and dtype."""


class Statistics(ABC):
    """Sums and counts over a split, as named tensors.

    The statistics of a whole are the element-wise sums of those of its parts, however a split is cut into batches or
    spread over processes: add up `states` (`merge`, or an all-reduce with sum).
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The states, all 0 at the start."""

    @property
    def key(self) -> Hashable:
        """Equal for statistics that gather the same: metrics of a task share one of them."""
        return type(self)

    @cached_property
    def states(self) -> dict[str, Tensor]:
        """The state tensors; allocated when first asked for."""
        return {name: torch.zeros(shape, dtype=kind, device=self.device) for name, (shape, kind) in self.layout.items()}

    @abstractmethod
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch. No gradient, no host synchronisation."""

    def merge(self, other: "Statistics") -> None:
        """Add what another part of the split has gathered."""
        assert (type(self), self.layout) == (type(other), other.layout), "statistics of different kinds"
        for name, state in self.states.items():
            state += other.states[name].to(state.device)


class Metric(ABC):
    """One number for a whole split: `update` once a batch, `compute` once at the end.

    A metric is built for one evaluation and has no reset, so nothing of one phase can get into the next.
    """

    higher_is_better: bool
    statistics: Statistics

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch."""
        self.statistics.update(prediction, target)

    def merge(self, other: "Metric") -> None:
        """Add what `other`, the same metric, has seen on another part of the split."""
        self.statistics.merge(other.statistics)

    @property
    def states(self) -> dict[str, Tensor]:
        """The named sums behind the metric."""
        return self.statistics.states

    @abstractmethod
    def compute(self) -> float:
        """The metric over everything seen since construction; NaN where it is not defined."""


MakeMetric = Callable[[torch.device], Metric]
"""device -> metric that has seen nothing."""


class MetricGroup:
    """The metrics of one task over one split; metrics with equal statistics share them, so each batch is counted once.

    Args:
        metrics: Name -> constructor taking a device.
        device: Of predictions and states.
    """

    def __init__(self, metrics: Mapping[str, MakeMetric], device: torch.device) -> None:
        self.metrics = {name: make(device) for name, make in metrics.items()}
        self.statistics: dict[Hashable, Statistics] = {}
        for metric in self.metrics.values():
            metric.statistics = self.statistics.setdefault(metric.statistics.key, metric.statistics)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch to every metric."""
        for statistics in self.statistics.values():
            statistics.update(prediction, target)

    def merge(self, other: "MetricGroup") -> None:
        """Add what the same group has seen on another part of the split."""
        for own, more in zip(self.statistics.values(), other.statistics.values(), strict=True):
            own.merge(more)

    def compute(self) -> dict[str, float]:
        """Name -> value."""
        return {name: metric.compute() for name, metric in self.metrics.items()}


def ratio(numerator: float, denominator: float) -> float:
    """The quotient; NaN for a denominator of 0."""
    return numerator / denominator if denominator else float("nan")
