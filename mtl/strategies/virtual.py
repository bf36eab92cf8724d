"""Going to another point and coming back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from mtl.objective import MultiTaskObjective


def network_parameters(objective: MultiTaskObjective) -> list[Parameter]:
    """All trained parameters: shared ones, then each task's own, in task order."""
    return [*objective.shared_parameters(), *(p for task in objective.tasks for p in objective.task_parameters(task))]


@contextmanager
def displaced(parameters: Sequence[Parameter], by: Sequence[Tensor], factor: float) -> Iterator[None]:
    """Inside, `parameters` are at p + factor * by; afterwards at p again, to the bit."""
    points: list[Tensor] = list(parameters)
    originals = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_add_(points, list(by), alpha=factor)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(points, originals)


def optimizer_drift(optimizer: Optimizer, parameters: Sequence[Parameter]) -> list[Tensor]:
    """What SGD would add to each gradient: weight decay, and momentum times the buffer of its last step."""
    group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    drift = []
    for p in parameters:
        group = group_of[p]
        added = p.detach() * float(group.get("weight_decay", 0.0))
        buffer = optimizer.state[p].get("momentum_buffer") if p in optimizer.state else None
        if buffer is not None:
            added = added + buffer * float(group["momentum"])
        drift.append(added)
    return drift
