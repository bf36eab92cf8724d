"""Cross-entropies over classes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.tasks.losses.base import mean_over_valid
from mtl.tasks.targets import IGNORE
from mtl.validation import check_choice, check_non_negative


class CrossEntropy:
    """Cross-entropy of logits (B, C) against classes (B,), averaged over the batch. Every sample has a class."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        return functional.cross_entropy(prediction, target)


class DenseCrossEntropy:
    """Cross-entropy of logits (B, C, H, W) against classes (B, H, W), averaged over the pixels that are not void (-1).

    With class weights w: sum over valid pixels of w[class] * loss, divided by the sum of w[class], as in PyTorch. Where
    that sum is 0 (all void, or only classes of weight 0) the loss is 0 with graph.

    Args:
        class_weights: One number >= 0 per class, not all 0; all equal for None.

    Raises:
        ConfigError: weights negative, not finite or all 0; another number of weights than classes.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self.class_weights: Tensor | None = None
        if class_weights is not None:
            for weight in class_weights:
                check_non_negative("class_weights", weight)
            self.class_weights = torch.tensor(list(class_weights), dtype=torch.float32)
            if not 0 < self.class_weights.sum().item() < float("inf"):
                raise ConfigError(
                    "Parameter `class_weights` should be finite numbers >= 0, at least one above 0. "
                    f"Found `class_weights = {list(class_weights)}`."
                )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        if self.class_weights is None:
            return _sum(prediction, target) / (target != IGNORE).sum().clamp_min(1)
        if len(self.class_weights) != prediction.shape[1]:
            raise ConfigError(
                f"Parameter `class_weights` should have one weight for each of {prediction.shape[1]} classes. "
                f"Found {len(self.class_weights)}."
            )
        self.class_weights = weights = self.class_weights.to(prediction)
        weight = weights[target.clamp_min(0)].where(target != IGNORE, 0).sum()
        return _sum(prediction, target, weights) / weight.where(weight > 0, 1)


class OneHotBinaryCrossEntropy:
    """Segmentation as C binary problems: sigmoid cross-entropy of logits (B, C, H, W) against the one-hot class.

    Mean over pixels and channels. Source: Pascal et al., arXiv:2109.11678, released code (`nyuv2`).

    Args:
        void: "background": a void pixel (-1) has the all-zero target and counts, as in the released code, whose void is
            the background class that has no channel; "ignore": it does not count.
    """

    def __init__(self, void: str = "background") -> None:
        check_choice("void", void, ("background", "ignore"))
        self.void = void

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        classes = torch.arange(prediction.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 1))
        one_hot = (target.unsqueeze(1) == classes).to(prediction.dtype)
        losses = functional.binary_cross_entropy_with_logits(prediction, one_hot, reduction="none")
        if self.void == "background":
            return losses.mean()
        return mean_over_valid(losses, (target != IGNORE).unsqueeze(1).expand_as(losses))


def _sum(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Summed cross-entropy of the pixels that are not void.

    Summed here: of maps, PyTorch's own `sum` and `mean` have no deterministic implementation on CUDA.
    """
    return functional.cross_entropy(prediction, target, weights, ignore_index=IGNORE, reduction="none").sum()
