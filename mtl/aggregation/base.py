"""Aggregators: task gradients to task weights or to a direction."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = ("parameters", "features", "last_layer")
"""Where task gradients can be compared; see `mtl.gradients`."""


@dataclass(frozen=True)
class TaskGradients:
    """What an aggregator sees of one step.

    Attributes:
        gramian: (m, m) inner products of the task gradients, float64 on the CPU, symmetric and finite.
        losses: (m,) finite loss values, float64 on the CPU.
        rows: (m, n) the task gradients themselves, in the precision and on the device of training. Not to be changed,
            and to be read during `aggregate` only: their memory is used again.
        point: Gives the values (n,) at which they were taken: parameters, or activations at the feature level.
        batch: Sizes (B, d) of consecutive blocks of columns, B samples of d values each, where the samples of a batch
            are to be compared summed (`batch_axis: summed`); empty where every column stands for itself.
    """

    gramian: Tensor
    losses: Tensor
    rows: Tensor
    point: Callable[[], Tensor]
    batch: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Combination:
    """What is to become of the task gradients: a weighted sum of them, or another direction.

    Attributes:
        weights: (m,) float64 on the CPU; the update is sum_k weights[k] g_k. None if it is no weighted sum.
        direction: (n,) like the rows; takes the place of the weighted sum.
    """

    weights: Tensor | None = None
    direction: Tensor | None = None


class Aggregator(nn.Module, ABC):
    """Task gradients -> what is done with them. State that the next step depends on is in buffers.

    Attributes:
        levels: Where the method is defined.
        needs_rows: Whether it reads `TaskGradients.rows` and `point`, beyond Gramian and losses.
        gives_weights: Whether its updates are weighted sums; otherwise they are directions.
        diagnostics: Scalars about the last call: iterations, residual, counts of fallbacks.
    """

    levels: tuple[str, ...] = LEVELS
    needs_rows: bool = True
    gives_weights: bool = True
    diagnostics: dict[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.diagnostics = {}

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Prepare for m tasks. `generator` is the only source of randomness."""

    def allocate(self, rows: Tensor) -> None:
        """Make buffers of the size of the task gradients; `rows` (m, n) has their shape, precision and device.

        Called once after `setup`, at a level where n is the same in every step (not at the features).
        """

    def end_epoch(self) -> None:
        """Called after the last step of every epoch."""

    @abstractmethod
    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Decide one step."""


class GramianWeighting(Aggregator):
    """Gramian G (m, m) and loss values (m,), both float64 on the CPU -> weights w (m,), float64.

    The combined gradient is sum_k w_k g_k. Works on m x m numbers only, whatever the number of parameters.
    """

    needs_rows = False

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Weights from the inner products alone."""
        return Combination(weights=self(gradients.gramian, gradients.losses).detach())

    @abstractmethod
    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Task weights (m,). `gramian` is symmetric and finite, `losses` are finite."""
