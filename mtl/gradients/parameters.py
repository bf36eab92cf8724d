"""Task gradients over all shared parameters, kept as a matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.base import GradientSource
from mtl.gradients.cut import Cut
from mtl.gradients.layout import LEAST_TASKS
from mtl.gradients.pairs import find_pairs, is_narrow
from mtl.gradients.passes import one_by_one, through_tail
from mtl.gradients.tail import Tail
from mtl.gradients.tensors import copy_rows, flatten, in_other_order, set_gradients, views
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective


class TaskJacobian(GradientSource):
    """The Jacobian J (m, n) of the task losses over the shared parameters, in one preallocated buffer.

    Rows are written through per-parameter views. Their combination takes the place of the first row, and views of it
    become the parameters' `.grad`: no concatenation, no second vector, no temporaries of size m n.

    Args:
        objective: Whose parameters.
        ordered: Whether a row's entries are those of `flatten`, as whoever reads `rows` expects. If not, and with many
            tasks, those of a convolution weight are in the order in which their gradient comes.

    Attributes:
        matrix: J (m, n), row k the gradient of task k's (scaled) loss, from `measure` until `combine` or `write`.
    """

    def __init__(self, objective: MultiTaskObjective, *, ordered: bool = True) -> None:
        super().__init__(objective)
        n = sum(p.numel() for p in self.shared)
        like = next(iter(self.shared), torch.empty(0))
        self.matrix = torch.zeros((objective.num_tasks, n), dtype=like.dtype, device=like.device)
        self._apart = not ordered and objective.num_tasks >= LEAST_TASKS and any(map(in_other_order, self.shared))
        columns = views(self.matrix, self.shared, channels_last=self._apart)
        self._own = {id(parameter): column for parameter, column in zip(self.shared, columns, strict=True)}
        self._rows = [[column[k] for column in columns] for k in range(objective.num_tasks)]
        several = objective.num_tasks > 1
        self._narrow = frozenset(id(p) for p in self.shared if several and is_narrow(p))
        self._gradients = views(self.matrix[0], self.shared)

    @property
    def rows(self) -> Tensor:
        """J (m, n), until `combine` or `write`."""
        return self.matrix

    def point(self) -> Tensor:
        """The shared parameters."""
        return flatten(self.shared)

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """M backbone backwards; G = J J^T in one product."""
        tail = self.tails.find(evaluation)
        if tail is not None:
            self._measure_below(tail, Cut(self.objective, evaluation, scales, self.count, self.layout))
        else:
            self._measure_one_by_one(evaluation, scales)
        self.count.backbone += len(evaluation.losses)
        return self._checked(gramian(self.matrix))

    def _measure_one_by_one(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> None:
        """Straight from the losses to the parameters; the weights of narrow convolutions by two tasks at once."""
        pairs = find_pairs(evaluation, self._own, self._narrow) if self._narrow else []
        paired = {id(parameter) for pair in pairs for parameter in pair.parameters}
        rest = [index for index, p in enumerate(self.shared) if id(p) not in paired]
        wanted: list[Tensor | GradientEdge] = [pair.place for pair in pairs]
        wanted += [self.shared[index] for index in rest]
        self.heads = []
        self.layout.learn(evaluation.features or evaluation.losses, len(evaluation.losses))
        with self.layout.applied():
            for k, found, head in one_by_one(self.objective, evaluation, scales, wanted):
                for pair, gradient in zip(pairs, found, strict=False):
                    pair.put(k, gradient)
                copy_rows([self._rows[k][index] for index in rest], found[len(pairs) :])
                self.heads.append(head)
        self.count.heads += len(evaluation.losses)

    def _measure_below(self, tail: Tail, cut: Cut) -> None:
        """The last stages for several tasks at once, straight into the rows; the rest one by one."""
        own = {key: column for key, column in self._own.items() if key in tail.parameters}
        rest = [index for index, p in enumerate(self.shared) if id(p) not in own]
        wanted = [self.shared[index] for index in rest]
        self.layout.learn(cut.evaluation.features, len(cut.evaluation.losses))
        with self.layout.applied():
            for k, found in through_tail(tail, cut, wanted, own, {}):
                copy_rows([self._rows[k][index] for index in rest], found)
        self.heads = cut.heads

    def combine(self, weights: Tensor) -> None:
        """`.grad` = J^T w, once after each `measure`."""
        scaled = weights.to(self.matrix)
        if not self._apart:
            self.matrix[0].addmv_(self.matrix[1:].T, scaled[1:], beta=scaled[0].item())
        else:
            columns = torch.split(self.matrix, [p.numel() for p in self.shared], dim=1)
            for part, parameter, target in zip(columns, self.shared, self._gradients, strict=True):
                target.copy_(views(torch.mv(part.T, scaled), [parameter], channels_last=True)[0])
        self._assign()

    def write(self, direction: Tensor) -> None:
        """`.grad` = direction."""
        self.matrix[0] = direction
        self._assign()

    def _assign(self) -> None:
        set_gradients(self.shared, self._gradients)
