"""Metrics: states that add up over batches (and processes), one number at the end of a split."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Metric(ABC):
    """A metric over a whole split: `update` once a batch, `compute` once at the end.

    The state is one tensor of sums and counts, so states of parts of a split add up exactly, whatever the batch size.
    """

    higher_is_better: bool
    state: Tensor

    @abstractmethod
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch to the state. No gradient, no host synchronisation."""

    @abstractmethod
    def compute(self) -> float:
        """The metric over everything seen since construction."""


class Accuracy(Metric):
    """Share of samples whose highest logit is the target class, in percent."""

    higher_is_better = True

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.state = torch.zeros(2, dtype=torch.int64, device=device)  # correct, seen

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (B, C) and classes (B,)."""
        self.state[0] += (prediction.argmax(dim=1) == target).sum()
        self.state[1] += target.numel()

    def compute(self) -> float:
        """Percent correct; NaN when nothing was seen."""
        correct, seen = self.state.tolist()
        return 100.0 * correct / seen if seen else float("nan")
