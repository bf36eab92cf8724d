"""What the per-task states of MAO cost beyond the backward passes."""

from collections.abc import Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor

from bench import steps
from bench.problem import RESNET, Problem
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.objective import Evaluation, MultiTaskObjective

NAME = "mao"
BAR = 0.5
OPTIMIZERS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def _gradients(problem: Problem) -> list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Of shared parameters and head for each task; of two tasks in turn, as all would take 2 GB."""
    generator = torch.Generator().manual_seed(0)
    shared = [tuple(torch.randn(p.shape, generator=generator) for p in problem.shared) for _ in range(2)]
    heads = [tuple(torch.randn(p.shape, generator=generator) for p in head) for head in problem.heads]
    return [(shared[k % 2], head) for k, head in enumerate(heads)]


def beyond(setting_text: str = "mao") -> Contender:
    """The whole step, with losses and gradients that are there already in place of the passes."""
    problem = Problem(RESNET, setting_text)
    ours = problem.strategy()
    given = _gradients(problem)
    evaluation = problem.objective.evaluate(problem.batch)
    values = Evaluation(evaluation.tasks, [], (), evaluation.values, evaluation.num_samples)

    def rows(
        _: MultiTaskObjective, __: Evaluation, ___: Sequence[Tensor | None]
    ) -> Iterator[tuple[int, object, object]]:
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


def optimizers(kind: str) -> Contender:
    """One torch.optim.Adam a task on shared parameters and its head, with gradients that are there already."""
    problem = Problem(RESNET)
    given = _gradients(problem)
    found = [torch.optim.Adam([*problem.shared, *head], lr=1e-3, **OPTIMIZERS[kind]) for head in problem.heads]

    def run() -> int:
        for optimizer, head, (shared, own) in zip(found, problem.heads, given, strict=True):
            for parameter, gradient in zip([*problem.shared, *head], [*shared, *own], strict=True):
                parameter.grad = gradient
            optimizer.step()
        return 1

    return timed(run, calls=1)


def build(name: str) -> Contender:
    """`beyond`, `adam:KIND`, or a step."""
    kind, _, argument = name.partition(":")
    if kind == "adam":
        return optimizers(argument)
    return beyond() if kind == "beyond" else steps.build(RESNET, name, calls=1)


SECTION = Section(
    "MAO on ResNet-18, 40 tasks",
    "Beyond the backwards: `Strategy.step` of `mao` with losses and gradients that are there already. Against 40 "
    "optimizers, one a task, stepping on the parameters with the same gradients: torch.optim.Adam at its default "
    "(a loop over tensors on a CPU), and fused. The memory of MAO is among the memory rows.",
    [
        Row(NAME, "mao, beyond the backwards / an Adam a task", "beyond", "adam:default", BAR),
        Row(NAME, "mao, beyond the backwards / a fused Adam a task", "beyond", "adam:fused"),
        Row(NAME, "mao, whole step / bare", "ours:mao", "bare"),
    ],
    build,
    limit=60,
    rounds=8,
    warmup=1,
)
