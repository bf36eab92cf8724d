"""F-measure of edges and other maps at the best threshold."""

import torch
from torch import Tensor

from mtl.tasks.metrics.base import Layout, Metric, Statistics
from mtl.tasks.targets import IGNORE, match_logits

THRESHOLDS = 99


class ThresholdCounts(Statistics):
    """Histogram of the predicted probabilities, apart for negative and positive pixels."""

    @property
    def layout(self) -> Layout:
        """`pixels` (2, 100): true class, number of thresholds that the probability reaches."""
        return {"pixels": ((2, THRESHOLDS + 1), torch.int64)}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (B, 1, H, W) or (B, H, W) and targets (B, H, W); void pixels (-1) are left out."""
        valid = (target != IGNORE).flatten()
        grid = torch.arange(1, THRESHOLDS + 1, dtype=torch.float64, device=target.device) / (THRESHOLDS + 1)
        reached = torch.bucketize(match_logits(prediction, target).double().sigmoid(), grid, right=True)
        cells = (target * (THRESHOLDS + 1) + reached).flatten().where(valid, 0)
        self.states["pixels"].view(-1).index_add_(0, cells, valid.long())


class OptimalF(Metric):
    """Highest F-measure over the split among the thresholds 0.01, ..., 0.99 on the probability, in percent.

    One threshold for the whole split (ODS; maxF for saliency). A pixel is positive where its probability is at least
    the threshold. NaN when the split has no positive pixel.

    **Deviations.** The BSDS benchmark thins predicted edges and matches them one to one to true ones within a distance
    (a share of the image diagonal). Ours neither thins nor matches: distance 0, pixel for pixel; its values are not
    comparable with published ODS.
    """

    higher_is_better = True

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.statistics = ThresholdCounts(device)

    def compute(self) -> float:
        """Percent."""
        pixels = self.states["pixels"].cpu().double()
        positives = pixels[1].sum()
        if not positives:
            return float("nan")
        false, true = pixels.flip(1).cumsum(dim=1).flip(1)[:, 1:]
        return float(100.0 * (2 * true / (true + false + positives)).max())
