"""Toy objectives with known gradients: the shared parameter is one vector, and the losses act on it directly."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from mtl.datasets.base import Batch
from mtl.models.model import MultiTaskModel
from tests.problems import make_objective, make_spec, parameters_of


class Point(nn.Module):
    """A backbone that is its own output: z (1, n) is the shared parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(size))
        self.out_features = size

    def forward(self, inputs):
        return self.values.unsqueeze(0)


class Shift(nn.Module):
    """A head that adds a bias of its own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, features):
        return features + self.bias


def linear(prediction, target):
    """Its gradient is the target, wherever the parameters are."""
    return (prediction * target).sum()


def quadratic(prediction, target):
    return ((prediction - target) ** 2).sum() / 2


def point_objective(tasks=("a", "b", "c"), size: int = 4, loss: Callable = linear, heads: bool = False):
    model = MultiTaskModel(Point(size), {task: Shift(size) if heads else nn.Identity() for task in tasks})
    return make_objective(specs=[make_spec(task, loss=loss) for task in tasks], model=model.to(torch.float64))


def point_batch(targets: dict[str, torch.Tensor]) -> Batch:
    """With the loss `linear`, the gradients of a step."""
    return Batch(torch.zeros(1, 5, dtype=torch.float64), {k: v.reshape(1, -1).double() for k, v in targets.items()})


def random_targets(scales: dict[str, float], size: int = 4, count: int = 6, seed: int = 0):
    """Normal vectors, one per task and batch; a task's vectors depend on its name only."""
    batches = []
    for index in range(count):
        targets = {}
        for task, scale in scales.items():
            generator = torch.Generator().manual_seed(1000 * seed + 10 * index + sum(task.encode()) * 100_000)
            targets[task] = scale * torch.randn(size, generator=generator, dtype=torch.float64)
        batches.append(targets)
    return batches


def scaled_loss(factor: float) -> Callable:
    return lambda prediction, target: factor * ((prediction - target) ** 2).mean()


def run_with_resume(new_strategy: Callable, new_objective: Callable, batches, make_optimizer, cut: int):
    """Parameters and states of an uninterrupted run, and of one that is saved after `cut` batches and continued."""
    strategy, objective = new_strategy(), new_objective()
    strategy.setup(objective, make_optimizer, torch.Generator().manual_seed(0))
    for index, batch in enumerate(batches):
        if index == cut:
            saved = copy.deepcopy((strategy.state_dict(), objective.model.state_dict()))
        strategy.step(batch)
    other, continued = new_strategy(), new_objective()
    other.setup(continued, make_optimizer, torch.Generator().manual_seed(99))
    other.load_state_dict(saved[0])
    continued.model.load_state_dict(saved[1])
    for batch in batches[cut:]:
        other.step(batch)
    return (parameters_of(objective), strategy), (parameters_of(continued), other)


def same_state(first, second) -> bool:
    """Whether two nested states hold the same bits."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same_state(x, y) for x, y in zip(first, second, strict=True))
    return first == second
