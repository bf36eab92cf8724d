"""Task gradients at the shared features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.gradients.base import CutSource
from mtl.gradients.tensors import flatten
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective

BATCH_AXES = ("kept", "summed")


class FeatureJacobian(CutSource):
    """Rows C (m, D) of task gradients at the shared features; one backbone backward writes the combination.

    Args:
        objective: A model that exposes its shared features.
        batch_axis: `kept` flattens the whole (B, d) gradient, as MGDA-UB is defined; `summed` adds over the batch
            before the Gramian is taken (as LibMTL's `rep_grad`). The combination always uses the whole gradient.
    """

    def __init__(self, objective: MultiTaskObjective, batch_axis: str = "kept") -> None:
        super().__init__(objective)
        self.batch_axis = batch_axis

    @property
    def rows(self) -> Tensor:
        """C (m, D), the batch axis kept."""
        return self.cut.matrix

    def point(self) -> Tensor:
        """The activations."""
        return flatten(self.cut.evaluation.features)

    @property
    def batch(self) -> tuple[tuple[int, int], ...]:
        """(B, values a sample) of each feature tensor, if samples are summed."""
        if self.batch_axis == "kept":
            return ()
        return tuple((len(z), z.numel() // len(z)) for z in self.cut.evaluation.features)

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Head backwards only; G = C C^T."""
        self._begin(evaluation, scales)
        rows = self.rows
        if self.batch_axis == "summed":
            parts = torch.split(rows, [samples * size for samples, size in self.batch], dim=1)
            sums = [part.view(len(rows), *shape).sum(1) for part, shape in zip(parts, self.batch, strict=True)]
            rows = torch.cat(sums, dim=1)
        return self._checked(gramian(rows))

    def write(self, direction: Tensor) -> None:
        """`.grad` from one backbone backward of `direction` at the features."""
        self.cut.push(direction)
        self._cut = None
