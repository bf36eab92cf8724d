"""The backward passes of all tasks, one after the other."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.cut import Cut
from mtl.gradients.tail import Sink, Tail
from mtl.gradients.tail_rules import Rows
from mtl.objective import Evaluation, MultiTaskObjective

TOGETHER = 10
"""Tasks that go through a tail in one batch: more are not faster, and their maps leave the cache."""
Found = tuple[Tensor | None, ...]
"""Gradients at the places asked for; None where a task does not reach."""


def one_by_one(
    objective: MultiTaskObjective,
    evaluation: Evaluation,
    scales: Sequence[Tensor | None],
    wanted: Sequence[Tensor | GradientEdge],
) -> Iterator[tuple[int, Found, tuple[Tensor, ...]]]:
    """Yield (k, gradients at `wanted`, gradients of head k). The last task's pass frees the graph.

    Args:
        objective: Whose heads.
        evaluation: Losses of all tasks, with graph.
        scales: Factor of each task's loss; None for 1.
        wanted: Shared parameters, and places in the graph.
    """
    last = len(evaluation.losses) - 1
    for k, loss in enumerate(evaluation.losses):
        head = objective.task_parameters(k)
        found = torch.autograd.grad(
            loss,
            (*wanted, *head),  # type: ignore[arg-type] # tensors and places may be mixed
            grad_outputs=scales[k],
            retain_graph=k < last,
            allow_unused=True,
        )
        own = zip(found[len(wanted) :], head, strict=True)
        yield (
            k,
            found[: len(wanted)],
            tuple(torch.zeros_like(p) if gradient is None else gradient for gradient, p in own),
        )


def through_tail(
    tail: Tail, cut: Cut, wanted: Sequence[Tensor | GradientEdge], rows: Rows, sinks: Mapping[int, Sink]
) -> Iterator[tuple[int, Found]]:
    """Yield (k, gradients at `wanted`, None where task k does not reach), one task at a time.

    Args:
        tail: Of the graph.
        cut: The evaluation, whose heads are differentiated here.
        wanted: Parameters and places below the tail.
        rows: id of a parameter in the tail -> (m, *shape): where its gradients go.
        sinks: Of `Tail.run`.
    """
    roots: list[Tensor] = []

    def keep(_: int, found: Found) -> None:
        roots.append(tail.nothing() if found[0] is None else found[0])

    cut.collect([tail.root], keep)
    for first in range(0, len(roots), TOGETHER):
        stack = torch.stack(roots[first : first + TOGETHER])
        own = {name: part[first : first + TOGETHER] for name, part in rows.items()}
        ends = tail.run(stack, own, sinks, first)
        for k, gradients in enumerate(zip(*ends, strict=True), first):
            if not wanted:
                yield k, ()
                continue
            yield (
                k,
                torch.autograd.grad(
                    tail.places,
                    wanted,  # type: ignore[arg-type] # tensors and places may be mixed
                    gradients,
                    retain_graph=k < len(roots) - 1,
                    allow_unused=True,
                ),
            )
