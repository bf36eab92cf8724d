"""What a loss is."""

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction (B, ...), target (B, ...)) -> scalar with graph."""


def mean_over_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` (B, ...) where `valid` (the same shape), 0 with graph when nowhere; no host synchronisation."""
    return values.where(valid, 0).sum() / valid.sum().clamp_min(1)
