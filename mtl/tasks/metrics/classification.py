"""Accuracy of classes, and what a confusion matrix tells."""

from collections.abc import Hashable

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.tasks.metrics.base import Layout, Metric, Statistics, ratio
from mtl.tasks.targets import IGNORE
from mtl.validation import check_count


class Hits(Statistics):
    """Samples whose highest logit is the target class, and samples."""

    @property
    def layout(self) -> Layout:
        """`correct` and `seen`."""
        return {"correct": ((), torch.int64), "seen": ((), torch.int64)}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (B, C) and classes (B,)."""
        self.states["correct"] += (prediction.argmax(dim=1) == target).sum()
        self.states["seen"] += target.numel()


class Accuracy(Metric):
    """Share of samples whose highest logit is the target class, in percent; NaN when nothing was seen."""

    higher_is_better = True

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.statistics = Hits(device)

    def compute(self) -> float:
        """Percent correct."""
        return ratio(100.0 * self.states["correct"].item(), self.states["seen"].item())


class ConfusionMatrix(Statistics):
    """Pixels by true class (row) and predicted class (column), the highest logit; void pixels (-1) are left out.

    Raises:
        ConfigError: predictions with another number of channels than `num_classes`.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.num_classes = num_classes

    @property
    def layout(self) -> Layout:
        """`matrix` (C, C)."""
        return {"matrix": ((self.num_classes, self.num_classes), torch.int64)}

    @property
    def key(self) -> Hashable:
        """Depends on the number of classes."""
        return ConfusionMatrix, self.num_classes

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (B, C, ...) and classes (B, ...)."""
        if prediction.shape[1] != self.num_classes:
            raise ConfigError(
                f"The confusion matrix has `num_classes = {self.num_classes}`. Found predictions with "
                f"{prediction.shape[1]} channels. Give the metric the task's `num_outputs`."
            )
        valid = (target != IGNORE).flatten()
        predicted = prediction.max(dim=1).indices  # a quarter of argmax's time on a CPU, the same class
        cells = (target * self.num_classes + predicted).flatten().where(valid, 0)
        self.states["matrix"].view(-1).index_add_(0, cells, valid.long())


class ConfusionMetric(Metric):
    """A number out of the confusion matrix of a whole split.

    Args:
        num_classes: C, at least 2.
        device: Of predictions and states.
    """

    higher_is_better = True

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        check_count("num_classes", num_classes, minimum=2)
        self.statistics = ConfusionMatrix(num_classes, device)


class MeanIoU(ConfusionMetric):
    """Intersection over union of every class over the split, averaged over classes, in percent.

    A class without a single true pixel in the split is left out of the average, predicted or not (pixels wrongly given
    to it still count as missed ones of their true classes). So the average runs over the same classes for every method.
    NaN when no pixel is valid.

    **Deviations.** The mtan lineage averages over all classes and gets NaN with an absent one; others leave out only
    classes that are neither true nor predicted. mtan before November 2020 averaged over images: about 8 % higher.
    """

    def compute(self) -> float:
        """Percent."""
        matrix = self.states["matrix"].cpu().double()
        true, hits = matrix.sum(dim=1), matrix.diagonal()
        present = true > 0
        union = true + matrix.sum(dim=0) - hits
        return 100.0 * (hits[present] / union[present]).mean().item()


class PixelAccuracy(ConfusionMetric):
    """Share of the valid pixels of the split with the right class, in percent; NaN when none is valid."""

    def compute(self) -> float:
        """Percent."""
        matrix = self.states["matrix"].cpu()
        return ratio(100.0 * matrix.diagonal().sum().item(), matrix.sum().item())
