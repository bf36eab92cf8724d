"""Calls of aggregators that need the task gradients themselves."""

import torch

from mtl.aggregation import TaskGradients


def seen(rows, losses=None, point=None, batch=()):
    losses = torch.ones(len(rows), dtype=torch.float64) if losses is None else losses
    gramian = (rows @ rows.T).to(torch.float64)
    return TaskGradients(gramian, losses, rows, lambda: torch.ones_like(rows[0]) if point is None else point, batch)


def ready(method, rows, seed=0):
    method.setup(len(rows), torch.Generator().manual_seed(seed))
    method.allocate(rows)
    return method


def directions(method, sequence, **options):
    """What a method makes of a sequence of Jacobians: directions, from weights where it gives those."""
    found = []
    for rows in sequence:
        combination = method.aggregate(seen(rows, **options))
        weights = combination.weights
        found.append(combination.direction.clone() if weights is None else weights.to(rows) @ rows)
    return found
