"""The gradient engine: task gradients as rows, their Gramian, a combination, and its write-back.

Legend: m tasks, n shared parameters, B batch, D features per batch (B times their width).

A source measures the Gramian of one evaluation and afterwards writes a combination of the same task gradients into
`.grad` of the shared parameters. What it measures is independent of the method that turns the Gramian into weights:

- `TaskJacobian`: rows over all shared parameters, m backbone backwards;
- `FeatureJacobian`: rows at the shared features (MGDA-UB's bound), one backbone backward;
- `LastLayerJacobian`: rows over the last shared layer (GradNorm's reference), one whole backbone backward.

Each leaves the gradients of the heads in `heads[k]`, taken from the task's own (scaled) loss.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from mtl.errors import NonFiniteError
from mtl.objective import Evaluation, MultiTaskObjective

BATCH_AXES = ("kept", "summed")


@dataclass
class PassCount:
    """Backward passes of one step: through task heads, and through the whole backbone."""

    heads: int = 0
    backbone: int = 0


def task_rows(
    objective: MultiTaskObjective, evaluation: Evaluation, scales: Sequence[Tensor | None]
) -> Iterator[tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yield (k, gradients of the shared parameters, gradients of head k), one task at a time.

    Streams: nothing of an earlier task is kept here. The last task's pass frees the graph.

    Args:
        objective: Whose parameters to differentiate.
        evaluation: Losses of all tasks, with graph.
        scales: Factor of each task's loss; None for 1.
    """
    shared = objective.partition.shared
    last = len(evaluation.losses) - 1
    for k, loss in enumerate(evaluation.losses):
        head = objective.partition.task_specific[objective.tasks[k]]
        gradients = torch.autograd.grad(
            loss,
            shared + head,
            grad_outputs=scales[k],
            retain_graph=k < last,
            materialize_grads=True,
        )
        yield k, gradients[: len(shared)], gradients[len(shared) :]


class GradientSource(ABC):
    """Where the Gramian and the combined shared gradient of a step come from."""

    heads: list[tuple[Tensor, ...]]
    """Gradients of each task's own parameters, after `measure` or `skip`."""

    def __init__(self, objective: MultiTaskObjective) -> None:
        self.objective = objective
        self.shared = objective.partition.shared
        self.heads = []
        self.count = PassCount()

    @abstractmethod
    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Differentiate all tasks; return their Gramian (m, m), float64 on the CPU.

        Raises:
            NonFiniteError: a gradient is NaN or infinite; names the tasks.
        """

    @abstractmethod
    def combine(self, weights: Tensor) -> None:
        """Write sum_k weights[k] g_k into `.grad` of the shared parameters. `weights`: (m,), float64 on the CPU."""

    def skip(self, evaluation: Evaluation, scales: Sequence[Tensor | None], weights: Tensor) -> None:
        """Differentiate and combine with given weights, without a Gramian: one backbone backward."""
        cut = _Cut(self, evaluation, scales)
        cut.collect()
        cut.combine(weights)

    def reset(self) -> None:
        """Forget the step: no graph survives it."""
        self.heads = []
        self.count = PassCount()

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


class TaskJacobian(GradientSource):
    """The Jacobian J (m, n) of the task losses over the shared parameters, in one preallocated buffer.

    Rows are written through per-parameter views, the combination is one vector whose views become the parameters'
    `.grad`: no concatenation, no temporaries of size m n.

    Attributes:
        matrix: J (m, n), row k the gradient of task k's (scaled) loss.
        direction: The last combination, (n,).
    """

    def __init__(self, objective: MultiTaskObjective) -> None:
        super().__init__(objective)
        n = sum(p.numel() for p in self.shared)
        like = next(iter(self.shared), torch.empty(0))
        self.matrix = torch.zeros((objective.num_tasks, n), dtype=like.dtype, device=like.device)
        self.direction = torch.zeros(n, dtype=like.dtype, device=like.device)
        self._rows = [views(row, self.shared) for row in self.matrix]
        self._gradients = views(self.direction, self.shared)

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """M backbone backwards; G = J J^T in one product."""
        self.heads = []
        for k, shared, head in task_rows(self.objective, evaluation, scales):
            if shared:
                torch._foreach_copy_(self._rows[k], shared)
            self.heads.append(head)
        self.count.heads += len(evaluation.losses)
        self.count.backbone += len(evaluation.losses)
        return self._checked(gramian(self.matrix))

    def combine(self, weights: Tensor) -> None:
        """`.grad` = J^T w."""
        torch.mv(self.matrix.T, weights.to(self.matrix), out=self.direction)
        for parameter, gradient in zip(self.shared, self._gradients, strict=True):
            parameter.grad = gradient


class FeatureJacobian(GradientSource):
    """Rows C (m, D) of task gradients at the shared features; one backbone backward writes the combination.

    Args:
        objective: A model that exposes its shared features.
        batch_axis: `kept` flattens the whole (B, d) gradient, as MGDA-UB is defined; `summed` adds over the batch
            before the Gramian is taken (as LibMTL's `rep_grad`). The combination always uses the whole gradient.
    """

    def __init__(self, objective: MultiTaskObjective, batch_axis: str = "kept") -> None:
        super().__init__(objective)
        self.batch_axis = batch_axis
        self._cut: _Cut | None = None

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Head backwards only; G = C C^T."""
        self._cut = _Cut(self, evaluation, scales)
        self._cut.collect()
        rows = self._cut.matrix
        if self.batch_axis == "summed":
            parts = torch.split(rows, [z.numel() for z in evaluation.features], dim=1)
            sums = [part.view(len(rows), len(z), -1).sum(1) for part, z in zip(parts, evaluation.features, strict=True)]
            rows = torch.cat(sums, dim=1)
        return self._checked(gramian(rows))

    def combine(self, weights: Tensor) -> None:
        """`.grad` from one backbone backward of sum_k w_k dL_k/dz."""
        assert self._cut is not None, "combine() before measure()"
        self._cut.combine(weights)
        self._cut = None

    def reset(self) -> None:
        """Forget the step."""
        super().reset()
        self._cut = None


class LastLayerJacobian(GradientSource):
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
        self._cut: _Cut | None = None

    def measure(self, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> Tensor:
        """Backwards through the heads and down to the last shared layer; G = J_last J_last^T."""
        self._cut = _Cut(self, evaluation, scales)
        for k, rows in enumerate(self._cut.collect(self.last)):
            if rows:
                torch._foreach_copy_(self._rows[k], rows)
        return self._checked(gramian(self.matrix))

    def combine(self, weights: Tensor) -> None:
        """`.grad` from one backward of the weighted losses."""
        assert self._cut is not None, "combine() before measure()"
        self._cut.combine(weights)
        self._cut = None

    def reset(self) -> None:
        """Forget the step."""
        super().reset()
        self._cut = None


class _Cut:
    """One evaluation cut at the shared features: per-task passes above the cut, one weighted pass below it.

    A model without shared features has no cut: then the weighted pass runs from the losses, through the heads again.
    """

    def __init__(self, source: GradientSource, evaluation: Evaluation, scales: Sequence[Tensor | None]) -> None:
        self.source = source
        self.evaluation = evaluation
        self.scales = scales
        self.matrix = torch.empty(0)

    def collect(self, extra: tuple[Parameter, ...] = ()) -> list[tuple[Tensor, ...]]:
        """Head gradients into `source.heads`, feature gradients into `matrix` (m, D); return those of `extra`."""
        objective, evaluation = self.source.objective, self.evaluation
        cut = evaluation.features
        rows: list[Tensor] = []
        rest: list[tuple[Tensor, ...]] = []
        self.source.heads = []
        for k, loss in enumerate(evaluation.losses):
            head = objective.partition.task_specific[objective.tasks[k]]
            gradients = torch.autograd.grad(
                loss,
                (*cut, *extra, *head),
                grad_outputs=self.scales[k],
                retain_graph=bool(extra) or not cut,
                materialize_grads=True,
            )
            flat = [gradient.reshape(-1) for gradient in gradients[: len(cut)]]
            rows.append(flat[0] if len(flat) == 1 else torch.cat(flat) if flat else loss.new_empty(0))
            rest.append(gradients[len(cut) : len(cut) + len(extra)])
            self.source.heads.append(gradients[len(cut) + len(extra) :])
        self.source.count.heads += len(evaluation.losses)
        self.matrix = torch.stack(rows)
        return rest

    def combine(self, weights: Tensor) -> None:
        """One weighted backward pass; its result becomes `.grad` of the shared parameters."""
        evaluation, shared = self.evaluation, self.source.shared
        if not shared:
            return
        if evaluation.features:
            combined = torch.mv(self.matrix.T, weights.to(self.matrix))
            outputs: Sequence[Tensor] = evaluation.features
            grad_outputs: Sequence[Tensor] = views(combined, outputs)
        else:
            outputs = evaluation.losses
            factors = weights.to(evaluation.values)
            grad_outputs = [
                factor if scale is None else factor * scale for factor, scale in zip(factors, self.scales, strict=True)
            ]
            self.source.count.heads += len(outputs)
        gradients = torch.autograd.grad(outputs, shared, grad_outputs=grad_outputs, materialize_grads=True)
        self.source.count.backbone += 1
        for parameter, gradient in zip(shared, gradients, strict=True):
            parameter.grad = gradient


def gramian(rows: Tensor) -> Tensor:
    """R R^T as float64 on the CPU; (m, m) from (m, n). Recomputed in float64 if the product overflows."""
    product = (rows @ rows.T).to("cpu", torch.float64)
    if not math.isfinite(product.sum().item()) and torch.isfinite(rows).all():
        wide = rows.to(torch.float64)
        product = (wide @ wide.T).cpu()
    return product


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a vector, viewed in the shapes of `like`."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like]) if like else ()
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
