"""Task gradients over all shared parameters, one task after the other."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mtl.gradients.cut import Cut, PassCount
from mtl.gradients.layout import WeightLayout
from mtl.gradients.passes import one_by_one, through_tail
from mtl.gradients.tail import Sink, Tail, Tails
from mtl.objective import Evaluation, MultiTaskObjective


def task_rows(
    objective: MultiTaskObjective, evaluation: Evaluation, scales: Sequence[Tensor | None], tails: Tails | None = None
) -> Iterator[tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yield (k, gradients of the shared parameters, gradients of head k), one task at a time.

    Streams: no gradient of the size of the parameters is kept here (those of heads and at small maps are, where the
    last stages go together). The last task's pass frees the graph.

    Args:
        objective: Whose parameters to differentiate.
        evaluation: Losses of all tasks, with graph.
        scales: Factor of each task's loss; None for 1.
        tails: Kept from step to step, where the last stages are to be differentiated for several tasks at once.
    """
    layout = WeightLayout()
    layout.learn(evaluation.features or evaluation.losses, len(evaluation.losses))
    shared = objective.partition.shared
    tail = tails.find(evaluation) if tails is not None else None
    with layout.applied():
        if tail is not None:
            yield from _rows_below(tail, Cut(objective, evaluation, scales, PassCount()), shared)
            return
        for k, found, head in one_by_one(objective, evaluation, scales, shared):
            yield k, _known(found, shared), head


def _rows_below(
    tail: Tail, cut: Cut, shared: Sequence[Tensor]
) -> Iterator[tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Weight gradients are made when their task's turn comes, from its gradients at the outputs, which are small."""
    m = len(cut.evaluation.losses)
    ends = {id(p): p for p in shared if id(p) in tail.parameters - tail.weights}
    rows = {key: p.new_empty((m, *p.shape)) for key, p in ends.items()}
    outputs: dict[tuple[int, int], Tensor] = {}

    def sink(weight: int) -> Sink:
        return lambda first, own: outputs.update({(weight, k): part for k, part in enumerate(own, first)})

    rest = [p for p in shared if id(p) not in tail.parameters]
    for k, found in through_tail(tail, cut, rest, rows, {weight: sink(weight) for weight in tail.weights}):
        own = {id(p): gradient for p, gradient in zip(rest, _known(found, rest), strict=True)}
        own |= {key: part[k] for key, part in rows.items()}
        own |= {weight: tail.weight_gradient(weight, outputs.pop((weight, k))) for weight in tail.weights}
        yield k, tuple(own[id(p)] for p in shared), cut.heads[k]


def _known(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(p) if gradient is None else gradient for gradient, p in zip(found, like, strict=True))
