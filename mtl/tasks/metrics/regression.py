"""Errors of dense regression: depth, disparity, offsets."""

from abc import abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor

from mtl.tasks.metrics.base import Layout, Statistics, ratio
from mtl.tasks.metrics.legacy import BatchMetric
from mtl.tasks.targets import split_validity
from mtl.validation import check_non_negative


class RegressionErrors(Statistics):
    """Sums of absolute, relative and squared errors over the valid values of a split, in float64."""

    def __init__(self, floor: float, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.floor = floor

    @property
    def layout(self) -> Layout:
        """`absolute`, `relative`, `squared`, and `values`, their number (valid pixels times channels)."""
        return dict.fromkeys(("absolute", "relative", "squared"), ((), torch.float64)) | {"values": ((), torch.int64)}

    @property
    def key(self) -> Hashable:
        """Depends on the floor."""
        return RegressionErrors, self.floor

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add predictions (B, C, H, W) and targets (B, C + 1, H, W) with validity."""
        values, valid = split_validity(prediction, target)
        valid = valid.expand_as(values)
        error = (prediction.double() - values.double()).abs().where(valid, 0)
        denominator = values.double().abs().clamp_min(self.floor).where(valid, 1)
        self.states["absolute"] += error.sum()
        self.states["relative"] += (error / denominator).sum()
        self.states["squared"] += error.square().sum()
        self.states["values"] += valid.sum()


class RegressionMetric(BatchMetric):
    """A mean over all valid values of the split, pixels of every image alike; NaN when none is valid."""

    higher_is_better = False
    floor = 0.0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.statistics = RegressionErrors(self.floor, device)

    def of_batch(self, prediction: Tensor, target: Tensor) -> float | None:
        """The metric of one batch alone; None when no value is valid."""
        part = RegressionErrors(self.floor, prediction.device)
        part.update(prediction, target)
        return self.number(part) if part.states["values"] else None

    def compute(self) -> float:
        """The metric of the split."""
        return self.number(self.statistics)

    @abstractmethod
    def number(self, statistics: Statistics) -> float:
        """The metric out of the sums."""


class AbsoluteError(RegressionMetric):
    """Mean absolute error, in the unit of the target."""

    def number(self, statistics: Statistics) -> float:
        """Sum |error| / values."""
        return ratio(statistics.states["absolute"].item(), statistics.states["values"].item())


class RelativeError(RegressionMetric):
    """Mean of |error| / max(|true value|, floor), as a fraction.

    Args:
        floor: Smallest denominator, in the unit of the target, >= 0. 0 is the published definition; with true values
            near 0, as in the disparities called depth of the usual Cityscapes data, a few pixels then decide the mean
            (27.77 in tables is 2777 %), and a true value of 0 makes it infinite. State the floor with the number.
        device: Of predictions and states.

    Raises:
        ConfigError: a floor below 0.
    """

    def __init__(self, device: torch.device | str = "cpu", *, floor: float = 0.0) -> None:
        check_non_negative("floor", floor)
        self.floor = floor
        super().__init__(device)

    def number(self, statistics: Statistics) -> float:
        """Sum of relative errors / values."""
        return ratio(statistics.states["relative"].item(), statistics.states["values"].item())


class RootMeanSquaredError(RegressionMetric):
    """Square root of the mean squared error of the split, in the unit of the target."""

    def number(self, statistics: Statistics) -> float:
        """sqrt(sum error^2 / values)."""
        return float(ratio(statistics.states["squared"].item(), statistics.states["values"].item()) ** 0.5)
