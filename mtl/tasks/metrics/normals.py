"""Angles between predicted and true surface normals, in degrees."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.tasks.metrics.base import Layout, Statistics, ratio
from mtl.tasks.metrics.legacy import BatchMetric
from mtl.tasks.targets import split_validity

BINS = 2**22
"""Bins of the histogram over [0, 180] degrees, 4.3e-5 degrees each."""
STEPS = 2**20
"""Steps within a bin: positions are kept to 4.1e-11 degrees."""
THRESHOLDS = (11.25, 22.5, 30.0)


def angles(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Angle of every pixel, and whether it is valid.

    atan2(|p x t|, p . t) in float64: as exact at small angles as at large ones, and no function of the lengths. A
    vector of length 0 counts as 90 degrees.

    Args:
        prediction: (B, 3, H, W), any length.
        target: (B, 4, H, W): normals, and validity as last channel.

    Returns:
        Angles (n,) in [0, 180], 0 where not valid, and validity (n,), n = B * H * W.
    """
    normals, valid = split_validity(prediction, target)
    predicted, true = prediction.double(), normals.double()
    sine = torch.linalg.cross(predicted, true, dim=1).square().sum(dim=1).sqrt()
    cosine = (predicted * true).sum(dim=1)
    radians = torch.atan2(sine, cosine).where((sine != 0) | (cosine != 0), math.pi / 2)
    mask = valid.squeeze(1)
    return torch.rad2deg(radians).where(mask, 0).flatten(), mask.flatten()


class AngleErrors(Statistics):
    """Sum, counts below the thresholds, and a histogram of the angles of a split: 48 MiB whatever its size.

    A bin holds how many angles fell into it and the sum of their positions within it, as integers. So the states do not
    depend on the order of pixels, bit for bit. A bin holds at most 2^31 - 1 angles.
    """

    @property
    def layout(self) -> Layout:
        """`total` (float64), `pixels`, `within` (3,), `bins` and `positions` (BINS,)."""
        return {
            "total": ((), torch.float64),
            "pixels": ((), torch.int64),
            "within": ((len(THRESHOLDS),), torch.int64),
            "bins": ((BINS,), torch.int32),
            "positions": ((BINS,), torch.int64),
        }

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add predictions (B, 3, H, W) and targets (B, 4, H, W) with validity."""
        found, valid = angles(prediction, target)
        self.states["total"] += found.sum()
        self.states["pixels"] += valid.sum()
        self.states["within"] += torch.stack([((found < limit) & valid).sum() for limit in THRESHOLDS])
        place = found.nan_to_num(0) * (BINS / 180)
        bins = place.long().clamp_(0, BINS - 1)
        self.states["bins"].index_add_(0, bins, valid.int())
        self.states["positions"].index_add_(0, bins, ((place - bins) * STEPS).round().long())


class NormalsMetric(BatchMetric):
    """A number out of the angles of all valid pixels of the split; NaN when none is valid or one is not a number."""

    higher_is_better = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.statistics = AngleErrors(device)

    def of_batch(self, prediction: Tensor, target: Tensor) -> float | None:
        """The metric of one batch alone; None when no pixel is valid."""
        found, valid = angles(prediction, target)
        kept = found[valid]
        return self.of_angles(kept).item() if len(kept) else None

    @abstractmethod
    def of_angles(self, found: Tensor) -> Tensor:
        """The metric of the angles (n,), n >= 1."""


class MeanAngle(NormalsMetric):
    """Mean angle in degrees."""

    def of_angles(self, found: Tensor) -> Tensor:
        """Their mean."""
        return found.mean()

    def compute(self) -> float:
        """Degrees."""
        return ratio(self.states["total"].item(), self.states["pixels"].item())


class MedianAngle(NormalsMetric):
    """Median angle in degrees; of an even number of pixels the mean of the two in the middle.

    From the histogram: exact (to 1e-10 degrees) where the middle pixels are alone in their bins or share one, and never
    further off than the width of a bin, 4.3e-5 degrees. See docs/decisions/metric-states.md.
    """

    def of_angles(self, found: Tensor) -> Tensor:
        """Their median."""
        ordered = found.sort().values
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

    def compute(self) -> float:
        """Degrees."""
        pixels = int(self.states["pixels"].item())
        if not pixels or math.isnan(self.states["total"].item()):
            return math.nan
        low, high = self._angle((pixels - 1) // 2), self._angle(pixels // 2)
        return (low + high) / 2

    def _angle(self, rank: int) -> float:
        """The angle with `rank` smaller ones; those of one bin are taken as evenly spread around their mean."""
        rows = self.states["bins"].view(2**11, -1)
        row, rank = _locate(rows.sum(dim=1), rank)
        column, rank = _locate(rows[row], rank)
        inside = row * rows.shape[1] + column
        count = int(self.states["bins"][inside].item())
        mean = self.states["positions"][inside].item() / count / STEPS
        spread = min(mean, 1 - mean) * 2
        return (inside + mean + spread * ((rank + 0.5) / count - 0.5)) * 180 / BINS


class WithinAngle(NormalsMetric):
    """Share of the pixels with an angle below `degrees`, in percent.

    Args:
        degrees: 11.25, 22.5 or 30.
        device: Of predictions and states.

    Raises:
        ConfigError: another number of degrees.
    """

    higher_is_better = True

    def __init__(self, degrees: float, device: torch.device | str = "cpu") -> None:
        if degrees not in THRESHOLDS:
            raise ConfigError(f"Parameter `degrees` should be 11.25, 22.5 or 30. Found `degrees = {degrees!r}`.")
        self.degrees = degrees
        super().__init__(device)

    def of_angles(self, found: Tensor) -> Tensor:
        """Their share below."""
        return 100.0 * (found < self.degrees).double().mean()

    def compute(self) -> float:
        """Percent."""
        below = self.states["within"][THRESHOLDS.index(self.degrees)].item()
        return ratio(100.0 * below, self.states["pixels"].item())


def _locate(counts: Tensor, rank: int) -> tuple[int, int]:
    """The entry of `counts` (k,) that holds the element of `rank`, and its rank among those of the entry."""
    ends = counts.cumsum(0, dtype=torch.int64)
    index = int(torch.searchsorted(ends, rank, right=True).item())
    return index, rank - (int(ends[index - 1].item()) if index else 0)
