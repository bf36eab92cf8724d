"""Cross-entropies of yes-or-no tasks: attributes, masks, edges."""

from torch import Tensor
from torch.nn import functional

from mtl.tasks.losses.base import mean_over_valid
from mtl.tasks.targets import IGNORE, match_logits
from mtl.validation import check_fraction


class BinaryCrossEntropy:
    """Sigmoid cross-entropy of one logit per target, averaged over the targets that are not void (-1).

    Logits (B,) or (B, 1) against {0, 1} (B,) for an attribute; logits (B, 1, H, W) against (B, H, W) for a mask.

    Raises:
        ConfigError: the shapes of a batch do not belong together.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        return mean_over_valid(_losses(prediction, target), target != IGNORE)


class BalancedBinaryCrossEntropy:
    """Sigmoid cross-entropy that weighs positives by w and negatives by 1 - w, averaged over the pixels not void (-1).

    For edges, logits (B, 1, H, W) against {0, 1} (B, H, W). Source: Xie and Tu, Holistically-nested edge detection,
    2015, equation 2, with w the share of negatives.

    Args:
        positive_weight: w in [0, 1]; None takes the share of negatives among the valid pixels of the batch. Then a
            batch without positives has w = 1, loss 0 and gradient 0.

    Raises:
        ConfigError: w outside [0, 1], or the shapes of a batch do not belong together.

    **Deviations.** Paper: a sum over the pixels of one image. Released code of multi-task benchmarks
    (SimonVandenhende/Multi-Task-Learning-PyTorch): w = 0.95 or of the batch, mean over all pixels, void ones in the
    denominator. Ours: w given or of the batch, mean over valid pixels.
    """

    def __init__(self, positive_weight: float | None = None) -> None:
        if positive_weight is not None:
            check_fraction("positive_weight", positive_weight)
        self.positive_weight = positive_weight

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        losses, valid, positive = _losses(prediction, target), target != IGNORE, target == 1
        weight: Tensor | float
        if self.positive_weight is None:
            weight = (valid & ~positive).sum().to(losses.dtype) / valid.sum().clamp_min(1)
        else:
            weight = self.positive_weight
        return mean_over_valid((losses * weight).where(positive, losses * (1 - weight)), valid)


def _losses(prediction: Tensor, target: Tensor) -> Tensor:
    """Loss of every element, in the shape of `target`; of no meaning where that is void."""
    logits = match_logits(prediction, target)
    return functional.binary_cross_entropy_with_logits(logits, target.clamp_min(0).to(logits.dtype), reduction="none")
