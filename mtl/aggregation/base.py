"""Gramian weightings: inner products of task gradients to task weights."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class GramianWeighting(nn.Module, ABC):
    """Gramian G (m, m) and loss values (m,), both float64 on the CPU -> weights w (m,), float64.

    The combined gradient is sum_k w_k g_k. Works on m x m numbers only, whatever the number of parameters; state that
    the next step depends on is in buffers created by `setup`.

    Attributes:
        diagnostics: Scalars about the last solve: iterations, residual, counts of fallbacks.
    """

    diagnostics: dict[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.diagnostics = {}

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Prepare for m tasks. `generator` is the only source of randomness."""

    @abstractmethod
    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Task weights (m,). `gramian` is symmetric and finite, `losses` are finite."""
