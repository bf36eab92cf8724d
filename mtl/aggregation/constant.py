"""Constant weights on gradients."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting


class Constant(GramianWeighting):
    """Every task gradient with the same weight: with 1, the gradient of the summed losses, taken task by task.

    The reference that every gradient source is tested with (equal to `uniform`), and a way to log Gramians of a plain
    sum.

    Args:
        weight: The weight of each task.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """The same number m times."""
        return torch.full((len(gramian),), self.weight, dtype=gramian.dtype)
