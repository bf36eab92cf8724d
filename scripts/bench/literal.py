"""PCGrad and MGDA as literal loops, the way nash-mtl and LibMTL do it. Written from their description, not copied.

Losses are stacked and indexed, every task takes a full backward pass that keeps the graph, inner products go tensor by
tensor in Python, and one more full backward pass follows.
"""

import copy
import itertools
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.problem import Problem, Setting
from bench.timing import Contender, timed

Gradient = Sequence[Tensor]


def pcgrad(setting: Setting, calls: int = 4, most: int | None = None) -> Contender:
    """K full backwards, a deep copy, per-tensor projections, one more backward for the heads."""
    problem = Problem(setting)
    optimizer = _with_states(problem)
    orders = random.Random(0)

    def run() -> int:
        optimizer.zero_grad()
        losses = _stacked(problem)
        gradients = _task_gradients(losses, problem)
        merged = _surgery(gradients, orders)
        losses.sum().backward()
        for parameter, gradient in zip(problem.shared, merged, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return 1

    return timed(run, calls=calls, most=most)


def mgda(setting: Setting, calls: int = 4, most: int | None = None) -> Contender:
    """K full backwards, per-tensor Gram entries, Frank-Wolfe on numbers, a full backward of the weighted losses."""
    problem = Problem(setting)
    optimizer = _with_states(problem)

    def run() -> int:
        optimizer.zero_grad()
        losses = _stacked(problem)
        weights = _frank_wolfe(_task_gradients(losses, problem))
        weighted = sum(losses[k] * weights[k] for k in range(len(weights)))
        assert isinstance(weighted, Tensor)
        weighted.backward()
        optimizer.step()
        return 1

    return timed(run, calls=calls, most=most)


def _with_states(problem: Problem) -> Optimizer:
    """An optimizer that has its states before the first step: one is all that is measured of a loop so slow."""
    optimizer = problem.optimizer()
    for parameter in problem.objective.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def _stacked(problem: Problem) -> Tensor:
    return torch.stack(problem.forward()[1])


def _task_gradients(losses: Tensor, problem: Problem) -> list[Gradient]:
    return [torch.autograd.grad(losses[k], problem.shared, retain_graph=True) for k in range(len(losses))]


def _dot(first: Gradient, second: Gradient) -> Tensor:
    total = torch.zeros(())
    for a, b in zip(first, second, strict=True):
        total = total + (a * b).sum()
    return total


def _surgery(gradients: list[Gradient], orders: random.Random) -> list[Tensor]:
    changed = [list(gradient) for gradient in copy.deepcopy(gradients)]
    for own in changed:
        others = list(gradients)
        orders.shuffle(others)
        for other in others:
            inner = _dot(own, other)
            if inner < 0:
                factor = inner / _dot(other, other)
                for index, tensor in enumerate(other):
                    own[index] = own[index] - factor * tensor
    merged = changed[0]
    for own in changed[1:]:
        merged = [a + b for a, b in zip(merged, own, strict=True)]
    return merged


def _frank_wolfe(gradients: list[Gradient], max_iter: int = 250, tol: float = 1e-5) -> list[float]:
    m = len(gradients)
    gram = [[0.0] * m for _ in range(m)]
    for i, j in itertools.combinations_with_replacement(range(m), 2):
        gram[i][j] = gram[j][i] = _dot(gradients[i], gradients[j]).item()
    weights = [1 / m] * m
    for _ in range(max_iter):
        products = [sum(gram[k][j] * weights[j] for j in range(m)) for k in range(m)]
        best = min(range(m), key=lambda k: products[k])
        current = sum(weights[k] * products[k] for k in range(m))
        denominator = current + gram[best][best] - 2 * products[best]
        step = 0.0 if denominator <= 0 else min(max((current - products[best]) / denominator, 0.0), 1.0)
        weights = [(1 - step) * weight + (step if k == best else 0.0) for k, weight in enumerate(weights)]
        if step < tol:
            break
    return weights


METHODS: dict[str, Callable[..., Contender]] = {"pcgrad": pcgrad, "mgda": mgda}
