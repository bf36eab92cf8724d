"""What the per-task states of MAO cost beyond the backward passes."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench import steps
from bench.problem import RESNET, Problem
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.objective import Evaluation
from mtl.strategies import Strategy

NAME = "mao"
BAR = 0.5


Gradients = list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]


@cache
def _ours() -> tuple[Problem, Strategy]:
    """Its states take 3.6 GB: both contenders share them."""
    problem = Problem(RESNET, "mao")
    return problem, problem.strategy()


@cache
def _gradients() -> Gradients:
    """Of shared parameters and head for each task, as autograd lays them out; of two tasks in turn (all: 1.8 GB)."""
    problem = _ours()[0]
    _, losses = problem.forward()
    found = [torch.autograd.grad(losses[k], [*problem.shared, *problem.heads[k]], retain_graph=True) for k in range(2)]
    count = len(problem.shared)
    return [(found[k % 2][:count], found[k % 2][count:]) for k in range(len(problem.heads))]


@cache
def _laid_out() -> Gradients:
    """The same in the layout of their parameters, as `backward` leaves them: fused optimizers need that."""
    problem, given = _ours()[0], _gradients()
    both = [
        tuple(torch.empty_like(p, requires_grad=False).copy_(g) for p, g in zip(problem.shared, shared, strict=True))
        for shared, _ in given[:2]
    ]
    return [(both[k % 2], head) for k, (_, head) in enumerate(given)]


def whole() -> Contender:
    """The step of `mao`."""
    problem, ours = _ours()

    def run() -> int:
        ours.step(problem.batch)
        return 1

    return timed(run, calls=1)


def beyond() -> Contender:
    """The step, with losses and gradients that are there already in place of the passes."""
    problem, ours = _ours()
    given = _gradients()
    evaluation = problem.objective.evaluate(problem.batch)
    values = Evaluation(evaluation.tasks, [], (), evaluation.values, evaluation.num_samples)

    def rows(*_: object) -> Iterator[tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]]:
        for k, (shared, head) in enumerate(given):
            yield k, shared, head

    def run() -> int:
        with (
            mock.patch("mtl.strategies.simultaneous.task_rows", rows),
            mock.patch.object(problem.objective, "evaluate", return_value=values),
        ):
            ours.step(problem.batch)
        return 1

    return timed(run, calls=1)


@cache
def _optimizers() -> tuple[Problem, list[Optimizer]]:
    problem = Problem(RESNET)
    return problem, [torch.optim.Adam([*problem.shared, *head], lr=1e-3, fused=True) for head in problem.heads]


def optimizers(*, fused: bool) -> Contender:
    """One torch.optim.Adam a task on shared parameters and its head, with gradients that are there already.

    The optimizers of both contenders are the same, with another value of their option.
    """
    problem, found = _optimizers()
    given = _laid_out()

    def run() -> int:
        for optimizer, head, (shared, own) in zip(found, problem.heads, given, strict=True):
            optimizer.param_groups[0]["fused"] = fused
            for parameter, gradient in zip([*problem.shared, *head], [*shared, *own], strict=True):
                parameter.grad = gradient
            optimizer.step()
        return 1

    return timed(run, calls=1)


def build(name: str) -> Contender:
    """`beyond`, `mao`, `bare`, `adam` or `fused`."""
    factories: dict[str, Callable[[], Contender]] = {
        "beyond": beyond,
        "mao": whole,
        "bare": partial(steps.bare, RESNET, calls=1),
        "adam": partial(optimizers, fused=False),
        "fused": partial(optimizers, fused=True),
    }
    return factories[name]()


SECTION = Section(
    "MAO on ResNet-18, 40 tasks",
    "Beyond the backwards: `Strategy.step` of `mao` with losses and gradients that are there already. Against 40 "
    "optimizers, one a task, stepping on the parameters with the same gradients, laid out as their parameters before "
    "the clock starts: torch.optim.Adam at its default (a loop over tensors on a CPU), and fused. The memory of MAO "
    "is among the memory rows.",
    [
        Row(NAME, "mao, beyond the backwards / an Adam a task", "beyond", "adam", BAR),
        Row(NAME, "mao, beyond the backwards / a fused Adam a task", "beyond", "fused"),
        Row(NAME, "mao, whole step / bare", "mao", "bare"),
    ],
    build,
    limit=28,
    rounds=8,
    warmup=1,
)
