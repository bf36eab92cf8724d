"""One run of the trial."""

import copy
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.datasets.base import Batch
from mtl.gradients import GhostGramian
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.strategies import GradientStrategy, Strategy
from trial.problem import BATCH_SIZE, TRAIN, Data, accuracy, objective

METHODS = ("mgda", "cagrad", "nash_mtl")
WAYS = {
    "exact": ("strategy.gramian=exact",),
    "sketch": ("strategy.gramian=sketch", "strategy.ema=0.9"),
    "sketch_every_5": ("strategy.gramian=sketch", "strategy.ema=0.7", "strategy.weights_every=5"),
    "features": ("strategy.gramian=features",),
    "exact_averaged": ("strategy.gramian=exact", "strategy.ema=0.9"),
}
"""How a method's Gramian is found. `exact_averaged` shows what the average over batches alone does to the direction."""
STEPS, LOOK_EVERY = 234, 20


@dataclass(frozen=True)
class Job:
    """A method (`uniform` or one of METHODS), how its Gramian is found, a seed and a learning rate."""

    method: str
    way: str
    seed: int
    lr: float


def strategy_of(method: str, way: str) -> Strategy:
    overrides = () if method == "uniform" else WAYS[way]
    return build_spec(*compose_config([f"strategy={method}", *overrides])).strategy


def train(job: Job, data: dict[str, Data]) -> dict[str, Any]:
    """234 steps of Adam, with a learning rate that falls to 0 linearly.

    Records accuracies at the end, and cosines of the direction with the exact one of the same batch on the way.
    """
    problem, strategy = objective(job.seed), strategy_of(job.method, job.way)
    generator = torch.Generator().manual_seed(derive_seed(job.seed, "strategy"))
    strategy.setup(problem, lambda parameters: torch.optim.Adam(parameters, lr=job.lr), generator)
    judges = _judges(strategy)
    cosines: dict[str, list[float]] = {name: [] for name in judges}
    order = torch.Generator().manual_seed(derive_seed(job.seed, "batches"))
    rows: list[Tensor] = []
    seconds = 0.0
    for step in range(STEPS):
        if not rows:
            rows = list(torch.randperm(TRAIN, generator=order).split(BATCH_SIZE))[: TRAIN // BATCH_SIZE]
        batch = data["train"].batch(rows.pop())
        exact = _exact(problem, batch) if judges and step % LOOK_EVERY == LOOK_EVERY - 1 else None
        for group in strategy.optimizers[0].param_groups:
            group["lr"] = job.lr * (1 - step / STEPS)
        start = time.process_time()
        report = strategy.step(batch)
        seconds += time.process_time() - start
        if exact is not None:
            assert report.weights is not None
            for name, judge in judges.items():
                cosines[name].append(_cosine(exact, report.weights, judge(exact, report.losses.double())))
    return {
        **asdict(job),
        "test": accuracy(problem.model, data["test"]),
        "val": accuracy(problem.model, data["val"]),
        "cosines": cosines,
        "cpu_seconds": seconds,
    }


def _judges(strategy: Strategy) -> dict[str, Any]:
    """Method -> what gives its weights of the exact Gramian: the run's own method, or all of them for `uniform`."""
    if isinstance(strategy, GradientStrategy):
        is_the_reference = strategy.gramian == "exact" and strategy.average.decay == 0
        return {} if is_the_reference else {"own": copy.deepcopy(strategy.aggregator)}
    judges = {}
    for method in METHODS:
        other = strategy_of(method, "exact")
        assert isinstance(other, GradientStrategy)
        other.aggregator.setup(strategy.objective.num_tasks, torch.Generator())
        judges[method] = other.aggregator
    return judges


def _exact(problem: MultiTaskObjective, batch: Batch) -> Tensor:
    """The Gramian of the batch at this point; running statistics stay."""
    source = GhostGramian(problem)
    return source.measure(problem.evaluate(batch, update_buffers=False), [None] * problem.num_tasks)


def _cosine(gramian: Tensor, one: Tensor, other: Tensor) -> float:
    """Of J^T one and J^T other, from J J^T."""
    first, second = one.double(), other.double()
    return float(first @ gramian @ second / ((first @ gramian @ first) * (second @ gramian @ second)).sqrt())
