"""Task gradients over the last shared layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.gradients.base import CutSource
from mtl.gradients.tensors import flatten, views
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective


class LastLayerJacobian(CutSource):
    """Rows over the last shared layer's parameters; one whole backward writes the combination.

    The last shared layer is the module whose weight is nearest to the features (found in the graph, not by name).
    """

    def __init__(self, objective: MultiTaskObjective) -> None:
        super().__init__(objective)
        self.last = objective.partition.last_shared
        n = sum(p.numel() for p in self.last)
        like = next(iter(self.last), torch.empty(0))
        self.matrix = torch.zeros((objective.num_tasks, n), dtype=like.dtype, device=like.device)
        self._rows = [views(row, self.last) for row in self.matrix]

    @property
    def rows(self) -> Tensor:
        """J_last (m, n of the last layer)."""
        return self.matrix

    def point(self) -> Tensor:
        """The last shared layer's parameters."""
        return flatten(self.last)

    def write(self, direction: Tensor) -> None:
        """Not defined: a direction of one layer says nothing of the others. `Aggregator.levels` excludes it."""
        raise NotImplementedError

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Backwards through the heads and down to the last shared layer; G = J_last J_last^T."""

        def keep(k: int, found: tuple[Tensor | None, ...]) -> None:
            for row, gradient in zip(self._rows[k], found, strict=True):
                row.zero_() if gradient is None else row.copy_(gradient)

        self._begin(evaluation, scales, self.last, keep)
        return self._checked(gramian(self.matrix))
