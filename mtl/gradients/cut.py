"""One evaluation, cut at the shared features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.tensors import set_gradients, views
from mtl.objective import Evaluation, MultiTaskObjective

Keep = Callable[[int, tuple[Tensor | None, ...]], None]
"""(k, gradients) -> None; receives what was asked for beyond features and heads."""


def forget(k: int, gradients: tuple[Tensor | None, ...]) -> None:
    """Keep nothing."""


@dataclass
class PassCount:
    """Backward passes of one step: through task heads, and through the whole backbone."""

    heads: int = 0
    backbone: int = 0


class Cut:
    """One evaluation cut at the shared features: per-task passes above the cut, one weighted pass below it.

    A model without shared features has no cut: then the weighted pass runs from the losses, through the heads again.

    Args:
        objective: Whose parameters.
        evaluation: Losses of all tasks, with graph.
        scales: Factor of each task's loss; None for 1.
        count: To be kept up to date.

    Attributes:
        matrix: (m, D) task gradients at the features, after `collect`.
        heads: Gradients of each task's own parameters, after `collect`.
    """

    def __init__(
        self,
        objective: MultiTaskObjective,
        evaluation: Evaluation,
        scales: Sequence[Tensor | None],
        count: PassCount,
    ) -> None:
        self.objective = objective
        self.evaluation = evaluation
        self.scales = scales
        self.count = count
        self.matrix = torch.empty(0)
        self.heads: list[tuple[Tensor, ...]] = []

    def collect(self, extra: Sequence[Tensor | GradientEdge] = (), keep: Keep = forget) -> None:
        """Differentiate every task down to the features and to `extra`.

        Args:
            extra: Parameters, or places in the graph, whose gradients are wanted as well.
            keep: Takes (k, gradients of `extra`) of one task after the other; None for what a task does not reach.
        """
        objective, evaluation = self.objective, self.evaluation
        cut = evaluation.features
        rows: list[Tensor] = []
        self.heads = []
        for k, loss in enumerate(evaluation.losses):
            head = objective.partition.task_specific[objective.tasks[k]]
            found = torch.autograd.grad(
                loss,
                (*cut, *head, *extra),  # type: ignore[arg-type] # tensors and places may be mixed
                grad_outputs=self.scales[k],
                retain_graph=bool(extra) or not cut,
                allow_unused=True,
            )
            known = [
                torch.zeros_like(tensor) if gradient is None else gradient
                for gradient, tensor in zip(found, (*cut, *head), strict=False)
            ]
            flat = [gradient.reshape(-1) for gradient in known[: len(cut)]]
            rows.append(flat[0] if len(flat) == 1 else torch.cat(flat) if flat else loss.new_empty(0))
            self.heads.append(tuple(known[len(cut) :]))
            keep(k, found[len(known) :])
        self.count.heads += len(evaluation.losses)
        self.matrix = torch.stack(rows)

    def combine(self, weights: Tensor) -> None:
        """One weighted backward pass; its result becomes `.grad` of the shared parameters."""
        if not self.objective.partition.shared:
            return
        if self.evaluation.features:
            self.push(torch.mv(self.matrix.T, weights.to(self.matrix)))
            return
        factors = weights.to(self.evaluation.values)
        scaled = [
            factor if scale is None else factor * scale for factor, scale in zip(factors, self.scales, strict=True)
        ]
        self.count.heads += len(scaled)
        self._backward(self.evaluation.losses, scaled)

    def push(self, direction: Tensor) -> None:
        """One backward pass of `direction` (D,) from the features on; its result becomes `.grad` as well."""
        self._backward(self.evaluation.features, views(direction, self.evaluation.features))

    def _backward(self, outputs: Sequence[Tensor], grad_outputs: Sequence[Tensor]) -> None:
        shared = self.objective.partition.shared
        gradients = torch.autograd.grad(outputs, shared, grad_outputs=grad_outputs, materialize_grads=True)
        self.count.backbone += 1
        set_gradients(shared, gradients)
