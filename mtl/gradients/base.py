"""What every source of a Gramian and of a combined gradient does."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.datasets.base import Batch
from mtl.errors import NonFiniteError
from mtl.gradients.cut import Cut, Keep, PassCount, forget
from mtl.gradients.layout import WeightLayout
from mtl.gradients.tail import Tails
from mtl.gradients.tensors import flatten
from mtl.objective import Evaluation, MultiTaskObjective


class GradientSource(ABC):
    """Where the Gramian and the combined shared gradient of a step come from."""

    heads: list[tuple[Tensor, ...]]
    """Gradients of each task's own parameters, after `measure` or `skip`."""
    one_backward = False
    """Whether the heads of all tasks are differentiated in one call of autograd, wherever the model allows it."""

    def __init__(self, objective: MultiTaskObjective) -> None:
        self.objective = objective
        self.shared = objective.partition.shared
        self.heads = []
        self.count = PassCount()
        self.layout = WeightLayout()
        self.tails = Tails(self.shared)

    def evaluate(self, batch: Batch) -> Evaluation:
        """The forward pass of a step, of which a source may keep what it needs."""
        with self.layout.applied():
            return self.objective.evaluate(batch, apart=True, one_backward=self.one_backward)

    @property
    def diagnostics(self) -> dict[str, float]:
        """Scalars about the last `measure`."""
        return self.tails.diagnostics

    @abstractmethod
    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Differentiate all tasks; return their Gramian (m, m), float64 on the CPU.

        Raises:
            NonFiniteError: a gradient is NaN or infinite; names the tasks.
        """

    @property
    @abstractmethod
    def rows(self) -> Tensor:
        """The task gradients (m, n) of the last `measure`, until `combine` or `write`."""

    @abstractmethod
    def point(self) -> Tensor:
        """Where they were taken: the values (n,) of what was differentiated by, without graph."""

    @property
    def batch(self) -> tuple[tuple[int, int], ...]:
        """Sizes (B, d) of the blocks of columns that are compared summed over the batch; none here."""
        return ()

    @abstractmethod
    def write(self, direction: Tensor) -> None:
        """Write `direction` (n,), in the place of a combination of the rows, into `.grad` of the shared parameters."""

    @abstractmethod
    def combine(self, weights: Tensor) -> None:
        """Write sum_k weights[k] g_k into `.grad` of the shared parameters, once after each `measure`.

        Args:
            weights: (m,), float64 on the CPU.
        """

    def skip(self, evaluation: Evaluation, scales: Sequence[Tensor | None], weights: Tensor) -> None:
        """Differentiate and combine with given weights, without a Gramian: one backbone backward."""
        cut = Cut(self.objective, evaluation, scales, self.count, self.layout)
        cut.collect()
        self.heads = cut.heads
        cut.combine(weights)

    def reset(self) -> None:
        """Forget the step: no graph survives it."""
        self.heads = []
        self.count = PassCount()
        self.layout.forget()

    def _checked(self, gramian: Tensor) -> Tensor:
        gramian = (gramian + gramian.T) / 2
        if not math.isfinite(gramian.sum().item()):
            bad = [self.objective.tasks[k] for k, row in enumerate(gramian) if not torch.isfinite(row[k])]
            raise NonFiniteError(
                f"Non-finite gradient of {' and '.join(bad) or 'some tasks'}. No parameter was changed with it. Lower "
                "the learning rate, or look for a loss whose derivative is not finite (a root or a logarithm at 0).",
                tuple(bad),
            )
        return gramian


class WithoutRows(GradientSource):
    """A source for methods that need the Gramian alone: others need `gramian: exact`."""

    @property
    def rows(self) -> Tensor:
        """None, (m, 0)."""
        return torch.empty(self.objective.num_tasks, 0)

    def point(self) -> Tensor:
        """The shared parameters."""
        return flatten(self.shared)

    def write(self, direction: Tensor) -> None:
        """Not defined without rows."""
        raise NotImplementedError


class CutSource(GradientSource):
    """A source that differentiates above the shared features only, and combines in one backbone backward."""

    one_backward = True

    def __init__(self, objective: MultiTaskObjective) -> None:
        super().__init__(objective)
        self._cut: Cut | None = None

    def _begin(
        self,
        evaluation: Evaluation,
        scales: Sequence[Tensor | None],
        extra: Sequence[Tensor | GradientEdge] = (),
        keep: Keep = forget,
    ) -> None:
        """Cut and differentiate; `keep` receives every task's gradients of `extra`."""
        self._cut = Cut(self.objective, evaluation, scales, self.count, self.layout)
        self._cut.collect(extra, keep)
        self.heads = self._cut.heads

    @property
    def cut(self) -> Cut:
        """The evaluation of the last `measure`, not yet combined."""
        assert self._cut is not None, "combine() before measure()"
        return self._cut

    def combine(self, weights: Tensor) -> None:
        """`.grad` from one backbone backward of the weighted sum."""
        self.cut.combine(weights)
        self._cut = None

    def reset(self) -> None:
        """Forget the step."""
        super().reset()
        self._cut = None
