"""Weightings from two independent samples of the task gradients."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class CrossGramianWeighting(nn.Module, ABC):
    """Cross-Gramian C = J_1 J_2^T (m, m), float64 on the CPU -> task weights w (m,), float64.

    J_1 and J_2 hold the task gradients of two independent samples, C[i, k] = g_i(z_1) . g_k(z_2). C w is then an
    unbiased estimate of G w, which the product of one sample with itself is not. C is neither symmetric nor positive
    semi-definite. State that the next step depends on is in buffers.

    Attributes:
        diagnostics: Scalars about the last call.
    """

    diagnostics: dict[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.diagnostics = {}

    @abstractmethod
    def setup(self, num_tasks: int) -> None:
        """Prepare for m tasks."""

    @abstractmethod
    def forward(self, cross: Tensor) -> Tensor:
        """Weights (m,) of the update; `cross` (m, m) is finite."""
