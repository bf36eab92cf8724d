"""Counts of yes-or-no tasks: attributes and masks.

A logit above 0 (probability above 1/2) predicts a positive; void targets (-1) are left out. Each metric is of one task;
an average over attributes is an average over tasks.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from mtl.tasks.metrics.base import Layout, Metric, Statistics, ratio
from mtl.tasks.targets import IGNORE, match_logits


class BinaryCounts(Statistics):
    """True negatives, false positives, false negatives, true positives."""

    @property
    def layout(self) -> Layout:
        """`counts` (4,), in that order."""
        return {"counts": ((4,), torch.int64)}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (B,), (B, 1) or (B, 1, H, W) and targets (B,) or (B, H, W)."""
        valid = (target != IGNORE).flatten()
        cells = (2 * target + (match_logits(prediction, target) > 0)).flatten().where(valid, 0)
        self.states["counts"].index_add_(0, cells, valid.long())


class BinaryMetric(Metric):
    """A number out of the four counts; NaN when nothing was seen."""

    higher_is_better = True

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.statistics = BinaryCounts(device)

    def compute(self) -> float:
        """Percent."""
        counts = self.states["counts"].tolist()
        return 100.0 * self.share(*counts) if sum(counts) else float("nan")

    @abstractmethod
    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:
        """The metric of at least one sample, between 0 and 1."""


class BinaryAccuracy(BinaryMetric):
    """Share of right predictions, in percent."""

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:
        """(tp + tn) / all."""
        return (tp + tn) / (tn + fp + fn + tp)


class ErrorRate(BinaryMetric):
    """Share of wrong predictions, in percent."""

    higher_is_better = False

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:
        """(fp + fn) / all."""
        return (fp + fn) / (tn + fp + fn + tp)


class Precision(BinaryMetric):
    """Share of the predicted positives that are positive, in percent; 0 when none is predicted."""

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:  # noqa: ARG002
        """Tp / (tp + fp)."""
        return tp / max(tp + fp, 1)


class Recall(BinaryMetric):
    """Share of the positives that are predicted, in percent; 0 when the split has none."""

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:  # noqa: ARG002
        """Tp / (tp + fn)."""
        return tp / max(tp + fn, 1)


class F1(BinaryMetric):
    """Harmonic mean of precision and recall of the positives over the split, in percent.

    0 when nothing is both positive and predicted, also for a split without positives, as scikit-learn has it: so an
    average over attributes exists.
    """

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:  # noqa: ARG002
        """2 tp / (2 tp + fp + fn)."""
        return 2 * tp / max(2 * tp + fp + fn, 1)


class BinaryIoU(BinaryMetric):
    """Intersection over union of the positives over the split, in percent; NaN when it has none, as in `MeanIoU`.

    **Deviations.** Pascal et al. (arXiv:2109.11678), released code: per image, averaged over the images that contain
    the class and then over batches. Ours: over the pixels of the split.
    """

    def share(self, tn: int, fp: int, fn: int, tp: int) -> float:  # noqa: ARG002
        """Tp / (tp + fp + fn), defined with at least one positive."""
        return ratio(tp, tp + fp + fn) if tp + fn else float("nan")
