"""Training steps on one network and one batch: the bare passes, a plain step, and strategies of configs/."""

from collections.abc import Callable
from functools import cache

import torch

from bench.problem import Problem, Setting, torch_adam
from bench.timing import Contender, timed
from mtl.aggregation import FromTorchJD
from mtl.config.catalog import catalog
from mtl.gradients import GradientSource
from mtl.strategies import GradientStrategy, LossWeightingStrategy, SequentialStrategy, SimultaneousStrategy, Strategy


def bare(setting: Setting, calls: int = 4) -> Contender:
    """Forward, head backwards, one backbone backward per task. No aggregation, no optimizer step."""
    problem = Problem(setting)

    def run() -> int:
        features, losses = problem.forward()
        at_features = [
            torch.autograd.grad(loss, [features, *head])[0] for loss, head in zip(losses, problem.heads, strict=True)
        ]
        last = len(losses) - 1
        for k, gradient in enumerate(at_features):
            torch.autograd.grad(features, problem.shared, gradient, retain_graph=k < last)
        return 1

    return timed(run, calls=calls)


def uniform(setting: Setting, calls: int = 4) -> Contender:
    """An ordinary step on the summed loss."""
    problem = Problem(setting)
    optimizer = problem.optimizer()

    def run() -> int:
        optimizer.zero_grad()
        _, losses = problem.forward()
        torch.stack(losses).sum().backward()
        optimizer.step()
        return 1

    return timed(run, calls=calls)


def strategy(setting: Setting, text: str, calls: int = 4) -> Contender:
    """Our whole step, as a training run does it. Sequential strategies: time per optimizer step."""
    problem = Problem(setting, text)
    ours = problem.strategy()
    if isinstance(ours, SequentialStrategy):
        return timed(lambda: ours.step(problem.batch).cost.optimizer_steps, calls=calls)
    return _timed_step(problem, ours, calls)


def whole(setting: Setting, text: str, calls: int = 4) -> Contender:
    """The step of any strategy; of a sequential one all its optimizer steps together."""
    problem = Problem(setting, text)
    return _timed_step(problem, problem.strategy(), calls)


def _timed_step(problem: Problem, ours: Strategy, calls: int) -> Contender:
    def run() -> int:
        ours.step(problem.batch)
        return 1

    return timed(run, calls=calls)


@cache
def _joint(setting: Setting) -> tuple[Problem, list[GradientSource]]:
    return Problem(setting), []


def joint(setting: Setting, text: str, calls: int = 4) -> Contender:
    """As `strategy`, but all such contenders train one network and share their rows: 1.8 GB on ResNet-18."""
    problem, sources = _joint(setting)
    ours = problem.strategy(text)
    assert isinstance(ours, GradientStrategy)
    sources.append(ours.source)
    ours.source = sources[0]
    del sources[1:]

    def run() -> int:
        ours.step(problem.batch)
        return 1

    return timed(run, calls=calls)


def substeps(setting: Setting, text: str, calls: int = 4) -> Contender:
    """What a sequential strategy does, by hand: for each group forward, backward of the summed loss, fused step.

    Groups are the strategy's own; one fused Adam of torch for all, or one per task. Time per optimizer step.
    """
    problem = Problem(setting, text)
    ours = problem.strategy(make_optimizer=torch_adam)
    assert isinstance(ours, SequentialStrategy)
    per_task = ours.optimizer_state == "per_task"

    def run() -> int:
        groups = ours.grouping.next_groups()
        for group in groups:
            optimizer = ours.optimizers[min(group) if per_task else 0]
            _, losses = problem.forward(group)
            torch.stack(losses).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return len(groups)

    return timed(run, calls=calls)


Factory = Callable[[Setting, str, int], Contender]
KINDS: dict[str, Factory] = {
    "bare": lambda setting, _, calls: bare(setting, calls),
    "uniform": lambda setting, _, calls: uniform(setting, calls),
    "ours": strategy,
    "joint": joint,
    "substeps": substeps,
}


def build(setting: Setting, name: str, calls: int = 4) -> Contender:
    """`bare`, `uniform`, `ours:NAME [OPTION=VALUE ...]`, `joint:` the same, or `substeps:NAME`."""
    kind, _, argument = name.partition(":")
    return KINDS[kind](setting, argument, calls)


FAMILIES: dict[type, str] = {
    GradientStrategy: "gradient",
    SimultaneousStrategy: "gradient",
    LossWeightingStrategy: "loss",
    SequentialStrategy: "sequential",
}


def strategies() -> dict[str, str]:
    """Files of configs/strategy -> family in the sense of the rows; without those that need more than a batch.

    `gradient`, `sequential`, `loss`, or `features`: a gradient strategy that goes through the backbone once a step.
    """
    return {
        method.name: "features" if method.node.get("level") in ("features", "last_layer") else FAMILIES[method.strategy]
        for method in catalog()
        if method.strategy in FAMILIES and not issubclass(method.documented, FromTorchJD)
    }
