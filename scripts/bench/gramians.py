"""A step of a ResNet-18 (torchvision stem) at 64x64, batch 16, with 40 linear heads: where Gramians are what costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Parameter

from bench.timing import Contender
from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.datasets.base import Batch
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed

BATCH_SIZE = 16
SETTING = (
    "dataset=celeba",
    "backbone=timm",
    "backbone.name=resnet18",
    "backbone.features=pooled",
    "heads=linear",
    "optimizer=adam",
    "trainer.device=cpu",
)
METHODS = ("mgda", "pcgrad", "cagrad", "aligned_mtl", "upgrad", "nash_mtl")
WAYS: dict[str, tuple[str, ...]] = {
    "exact": ("strategy.gramian=exact",),
    "ghost": ("strategy.gramian=ghost",),
    "sketch": ("strategy.gramian=sketch", "strategy.ema=0.9"),
    "sketch_every_5": ("strategy.gramian=sketch", "strategy.ema=0.7", "strategy.weights_every=5"),
    "ghost_every_10": ("strategy.gramian=ghost", "strategy.weights_every=10"),
    "ghost_every_50": ("strategy.gramian=ghost", "strategy.weights_every=50"),
}
CALLS = {"sketch_every_5": 5, "ghost_every_10": 10, "ghost_every_50": 50}
"""Steps of a turn: a whole period of those that measure each n-th step."""
BARS = {
    "exact": ("bare", 1.15),
    "ghost": ("bare", 0.70),
    "sketch": ("uniform", 1.35),
    "sketch_every_5": ("uniform", 1.12),
    "ghost_every_10": ("uniform", 2.5),
    "ghost_every_50": ("uniform", 1.35),
}
"""What a way is held against (`bare` or `uniform` of this module), and the ratio that it should not exceed."""


class Problem:
    """A network of its own with the same initial weights as every other, and the same random batch."""

    def __init__(self, *overrides: str) -> None:
        self.spec = build_spec(*compose_config([*SETTING, *overrides]))
        data = self.spec.data
        model = build_model(self.spec.backbone, self.spec.head, data.tasks, data.input_shape, self.spec.seed).train()
        self.objective = MultiTaskObjective(model, data.tasks, data.input_shape)
        generator = torch.Generator().manual_seed(0)
        targets = {task: torch.randint(2, (BATCH_SIZE,), generator=generator) for task in self.objective.tasks}
        self.batch = Batch(torch.randn((BATCH_SIZE, *data.input_shape), generator=generator), targets)

    def forward(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and losses."""
        model, targets = self.objective.model, self.batch.targets
        features = model.features(self.batch.inputs)
        assert isinstance(features, torch.Tensor)
        return features, [s.loss(model.predict(features, s.name), targets[s.name]) for s in self.objective.specs]


def bare() -> Contender:
    """Forward, head backwards, one backbone backward per task. No aggregation, no optimizer step."""
    problem = Problem("strategy=uniform")
    shared = problem.objective.shared_parameters()
    heads = [problem.objective.task_parameters(task) for task in problem.objective.tasks]

    def run() -> int:
        features, losses = problem.forward()
        rows = [torch.autograd.grad(loss, [features, *h])[0] for loss, h in zip(losses, heads, strict=True)]
        for k, row in enumerate(rows):
            torch.autograd.grad(features, shared, row, retain_graph=k < len(rows) - 1)
        return 1

    return Contender(run, calls=1)


def uniform() -> Contender:
    """An ordinary step on the summed loss, by hand."""
    problem = Problem("strategy=uniform")
    optimizer = problem.spec.make_optimizer(problem.objective.model.parameters())

    def run() -> int:
        optimizer.zero_grad()
        torch.stack(problem.forward()[1]).sum().backward()
        optimizer.step()
        return 1

    return Contender(run, calls=4)


def ours(method: str, way: str | None = None) -> Contender:
    """The whole step of a strategy, Adam included; `way` is a key of WAYS, or None for the file as it is."""
    problem = Problem(f"strategy={method}", *(WAYS[way] if way else ()))
    strategy = problem.spec.strategy
    generator = torch.Generator().manual_seed(derive_seed(problem.spec.seed, "strategy"))
    strategy.setup(problem.objective, problem.spec.make_optimizer, generator)

    def run() -> int:
        strategy.step(problem.batch)
        return 1

    return Contender(run, calls=CALLS.get(way or "", 4 if method == "mgda_ub" else 1))


def mao_updates() -> Contender:
    """What `mao` does beyond the backward passes: its step with gradients that are there already."""
    problem = Problem("strategy=mao")
    strategy: Any = problem.spec.strategy
    strategy.setup(problem.objective, problem.spec.make_optimizer, torch.Generator())
    module = __import__(type(strategy).__module__, fromlist=["task_rows"])
    evaluation = problem.objective.evaluate(problem.batch)
    rows = list(module.task_rows(problem.objective, evaluation, [None] * problem.objective.num_tasks))[:2]
    some = [rows[k % 2] for k in range(problem.objective.num_tasks)]

    @contextmanager
    def given() -> Iterator[None]:
        real, forward = module.task_rows, problem.objective.evaluate
        module.task_rows = lambda *_: ((k, shared, head) for k, (_, shared, head) in enumerate(some))
        problem.objective.evaluate = lambda *_, **__: evaluation  # type: ignore[method-assign]
        try:
            yield
        finally:
            module.task_rows, problem.objective.evaluate = real, forward  # type: ignore[method-assign]

    def run() -> int:
        with given():
            strategy.step(problem.batch)
        return 1

    return Contender(run, calls=1)


def adam_per_task() -> Contender:
    """One torch.optim.Adam at its defaults a task: m steps on the shared parameters and one head, gradients given."""
    problem = Problem("strategy=uniform")
    shared, tasks = problem.objective.shared_parameters(), problem.objective.tasks
    heads = [problem.objective.task_parameters(task) for task in tasks]
    buffers = [Parameter(p.detach().clone()) for p in shared]
    own = [[Parameter(p.detach().clone()) for p in head] for head in heads]
    for parameter in (*buffers, *(p for head in own for p in head)):
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizers = [torch.optim.Adam([*buffers, *head]) for head in own]

    def run() -> int:
        for optimizer in optimizers:
            optimizer.step()
        return 1

    return Contender(run, calls=1)


def contender(name: str) -> Contender:
    """By name: `bare`, `uniform`, `mao_updates`, `adam_per_task`, `mgda_ub`, `METHOD:WAY`."""
    method, _, way = name.partition(":")
    plain = {"bare": bare, "uniform": uniform, "mao_updates": mao_updates, "adam_per_task": adam_per_task}
    return plain[name]() if name in plain else ours(method, way or None)


def pairs() -> list[tuple[str, str, str, float]]:
    """(label, numerator, denominator, bar) of every comparison, by the names that `contender` takes."""
    found = [
        (f"{method}, gramian {way} / {reference}, ResNet-18, 40 heads", f"{method}:{way}", reference, bar)
        for way, (reference, bar) in BARS.items()
        for method in METHODS
    ]
    found.append(("mgda_ub / uniform, ResNet-18, 40 heads", "mgda_ub", "uniform", 1.15))
    return [*found, ("mao, beyond its backwards / one torch Adam a task", "mao_updates", "adam_per_task", 0.5)]
