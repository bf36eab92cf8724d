"""The per-batch averages of older tables."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from functools import partial

import torch
from torch import Tensor

from mtl.tasks.metrics.base import Layout, MakeMetric, Metric, Statistics, ratio


class BatchMetric(Metric):
    """A metric that published code computes batch by batch."""

    @abstractmethod
    def of_batch(self, prediction: Tensor, target: Tensor) -> float | None:
        """The metric of one batch alone; None when the batch has no valid pixel. Synchronises with the host."""


class BatchMeans(Statistics):
    """The sum over batches of a metric of the batch alone, and the number of batches."""

    def __init__(self, make: MakeMetric, device: torch.device) -> None:
        super().__init__(device)
        metric = make(self.device)
        assert isinstance(metric, BatchMetric), "only a metric that has a value for one batch has a mean over batches"
        self.make, self.metric = make, metric

    @property
    def layout(self) -> Layout:
        """`total` and `batches`."""
        return {"total": ((), torch.float64), "batches": ((), torch.int64)}

    @property
    def key(self) -> Hashable:
        """Depends on the metric."""
        return BatchMeans, self.make

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch; a batch without a valid pixel does not count."""
        value = self.metric.of_batch(prediction, target)
        if value is not None:
            self.states["total"] += value
            self.states["batches"] += 1


class LegacyBatchMean(Metric):
    """Plain mean over the evaluation batches of a metric of each, as mtan and its descendants report depth and normals.

    It DEPENDS ON THE EVALUATION BATCH SIZE (2 on NYUv2 in that lineage) and weighs a batch with few valid pixels like
    any other; a mean of batch medians lies above the median where the errors are skewed. For comparison with older
    tables only. The states add up, but several processes give the number of one only with the same batches.

    Args:
        make: Constructor of the metric, a `BatchMetric`.
        device: Of predictions and states.

    **Deviations.** mtan: a batch without a valid pixel makes the mean NaN; ours leaves it out. mtan: valid is where the
    channels do not sum to 0, angles are from a float32 arc cosine; ours as in the metric itself.
    """

    def __init__(self, make: MakeMetric, device: torch.device) -> None:
        self.statistics = means = BatchMeans(make, device)
        self.higher_is_better = means.metric.higher_is_better

    def compute(self) -> float:
        """Mean over batches; NaN without any."""
        return ratio(self.states["total"].item(), self.states["batches"].item())


def with_legacy(metrics: Mapping[str, MakeMetric]) -> dict[str, MakeMetric]:
    """The metrics, and after them the per-batch mean of each that has one, `<name>_legacy`, from the same pass."""
    legacy: dict[str, MakeMetric] = {
        f"{name}_legacy": partial(LegacyBatchMean, make)
        for name, make in metrics.items()
        if isinstance(make(torch.device("cpu")), BatchMetric)
    }
    return {**metrics, **legacy}
