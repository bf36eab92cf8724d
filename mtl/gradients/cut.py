"""One evaluation, cut at the shared features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.layout import WeightLayout
from mtl.gradients.tensors import set_gradients, views
from mtl.objective import Evaluation, MultiTaskObjective

Keep = Callable[[int, tuple[Tensor | None, ...]], None]
"""(k, gradients) -> None; receives what was asked for beyond features and heads."""


def forget(k: int, gradients: tuple[Tensor | None, ...]) -> None:
    """Keep nothing."""


@dataclass
class PassCount:
    """Passes of one step: backward through task heads and through the whole backbone, and further forward passes."""

    heads: int = 0
    backbone: int = 0
    forwards: int = 0


class Cut:
    """One evaluation cut at the shared features: per-task passes above the cut, one weighted pass below it.

    A model without shared features has no cut: then the weighted pass runs from the losses, through the heads again.

    Args:
        objective: Whose parameters.
        evaluation: Losses of all tasks, with graph.
        scales: Factor of each task's loss; None for 1.
        count: To be kept up to date.
        layout: Of the weights, where it is kept from the forward pass on.

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
        layout: WeightLayout | None = None,
    ) -> None:
        self.objective = objective
        self.evaluation = evaluation
        self.scales = scales
        self.count = count
        self.layout = layout or WeightLayout()
        self.matrix = torch.empty(0)
        self.heads: list[tuple[Tensor, ...]] = []

    def collect(self, extra: Sequence[Tensor | GradientEdge] = (), keep: Keep = forget) -> None:
        """Differentiate every task down to the features and to `extra`.

        Where the tasks read the features apart (`Evaluation.reads`), one call of autograd serves all down to there.

        Args:
            extra: Shared parameters, or places in the graph, whose gradients are wanted as well.
            keep: Takes (k, gradients of `extra`) of one task after the other; None for what a task does not reach.
        """
        self.heads = []
        rows = self._together(extra, keep) if self.evaluation.reads else self._one_by_one(extra, keep)
        self.count.heads += len(rows)
        self.matrix = torch.stack(rows)

    def _together(self, extra: Sequence[Tensor | GradientEdge], keep: Keep) -> list[Tensor]:
        losses, reads = self.evaluation.losses, self.evaluation.reads
        heads = [self.objective.task_parameters(k) for k in range(len(losses))]
        wanted = [tensor for k, read in enumerate(reads) for tensor in (*read, *heads[k])]
        ones = [torch.ones_like(loss) if f is None else f for loss, f in zip(losses, self.scales, strict=True)]
        found = iter(torch.autograd.grad(losses, wanted, grad_outputs=ones, materialize_grads=True))
        rows = []
        for k, read in enumerate(reads):
            rows.append(_row(list(islice(found, len(read))), losses[k]))
            self.heads.append(tuple(islice(found, len(heads[k]))))
            if extra:
                features = self.evaluation.features
                keep(k, torch.autograd.grad(features, extra, views(rows[k], features), True, allow_unused=True))  # type: ignore[arg-type] # tensors and places may be mixed
        return rows

    def _one_by_one(self, extra: Sequence[Tensor | GradientEdge], keep: Keep) -> list[Tensor]:
        objective, cut = self.objective, self.evaluation.features
        rows: list[Tensor] = []
        for k, loss in enumerate(self.evaluation.losses):
            head = objective.task_parameters(k)
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
            rows.append(_row(known[: len(cut)], loss))
            self.heads.append(tuple(known[len(cut) :]))
            keep(k, found[len(known) :])
        return rows

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
        """Accumulated by autograd, which puts a gradient into its parameter's layout while it is in the cache."""
        shared = self.objective.partition.shared
        for parameter in shared:
            parameter.grad = None
        self.layout.learn(outputs, len(self.scales))
        with self.layout.applied():
            torch.autograd.backward(outputs, grad_outputs, inputs=shared)
        set_gradients(shared, [torch.zeros_like(p) if p.grad is None else p.grad for p in shared])
        self.count.backbone += 1


def _row(gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
    """The gradients of one task at the features, one after the other; empty without features."""
    flat = [gradient.reshape(-1) for gradient in gradients]
    return flat[0] if len(flat) == 1 else torch.cat(flat) if flat else loss.new_empty(0)
