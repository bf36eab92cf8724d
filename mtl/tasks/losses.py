"""Losses: prediction and target of one task to one scalar."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction (B, ...), target (B, ...)) -> scalar with graph."""


class CrossEntropy:
    """Cross-entropy of logits (B, C) against classes (B,), averaged over the batch."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        return functional.cross_entropy(prediction, target)
