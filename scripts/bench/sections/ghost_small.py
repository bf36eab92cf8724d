"""The ghost Gramian where no layer gains: what the choice itself costs."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bench import steps
from bench.problem import LENET
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.aggregation import MGDA
from mtl.datasets.base import Batch
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.strategies import GradientStrategy
from mtl.tasks import Accuracy, TaskSpec

NAME = "ghost_small"
BAR = 1.02
SMALL = replace(LENET, batch_size=16)
TASKS, WIDTH, DEPTH, BATCH_SIZE = ("a", "b"), 64, 24, 32


class Deep(nn.Module):
    """Many layers that are cheap with rows."""

    out_features = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, width) -> the same."""
        found: Tensor = self.layers(inputs)
        return found


def deep(gramian: str) -> Contender:
    """Steps of mgda on the deep narrow network."""
    torch.manual_seed(0)
    specs = [TaskSpec(task, 3, "regression", nn.functional.mse_loss, {"accuracy": Accuracy}) for task in TASKS]
    model = MultiTaskModel(Deep(), {task: nn.Linear(WIDTH, 3) for task in TASKS}).train()
    objective = MultiTaskObjective(model, specs, (WIDTH,))
    batch = Batch(torch.randn(BATCH_SIZE, WIDTH), {task: torch.randn(BATCH_SIZE, 3) for task in TASKS})
    strategy = GradientStrategy(MGDA(), gramian=gramian)
    strategy.setup(objective, lambda p: torch.optim.Adam(p, lr=1e-4, fused=True), torch.Generator().manual_seed(0))

    def run() -> int:
        strategy.step(batch)
        return 1

    return timed(run, calls=10)


def build(name: str) -> Contender:
    """`deep:GRAMIAN`, or a strategy on LeNet."""
    kind, _, gramian = name.partition(":")
    return deep(gramian) if kind == "deep" else steps.build(SMALL, name, calls=10)


SECTION = Section(
    "Ghost Gramian, two tasks, small networks",
    f"LeNet at batch {SMALL.batch_size}, and {DEPTH} linear layers of {WIDTH} units at batch {BATCH_SIZE}: no layer "
    "gains without its rows, and `ghost` has to be `exact`.",
    [
        Row(NAME, "LeNet, batch 16: mgda, ghost / exact", "ours:mgda gramian=ghost", "ours:mgda", BAR),
        Row(NAME, f"{DEPTH} layers of {WIDTH}: mgda, ghost / exact", "deep:ghost", "deep:exact", BAR),
    ],
    build,
    limit=20,
    processes=2,
    rounds=40,
)
