"""Weights alone, from given Gramians; and PCGrad alone, from given gradients."""

import functools
import itertools

import torch
from hydra.utils import instantiate
from torch import Tensor

from bench.timing import Contender
from mtl.aggregation import GramianWeighting, PCGrad
from mtl.config.catalog import catalog
from mtl.gradients import gramian

TASKS, PARAMETERS = 40, 11_000_000
"""Of the given gradients: CelebA's tasks, and about a ResNet-18."""
GRAMIANS = 20


def solvers() -> list[str]:
    """Every method of configs/strategy whose weights come from the Gramian."""
    return [method.name for method in catalog() if issubclass(method.documented, GramianWeighting)]


def solve(name: str, m: int) -> Contender:
    """A method's weights for Gramians of random gradients, the norms of whose rows differ by up to 100."""
    (method,) = (method for method in catalog() if method.name == name)
    aggregator = instantiate(method.node["aggregator"], _convert_="all")
    aggregator.setup(m, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    given = []
    for _ in range(GRAMIANS):
        rows = torch.randn(m, 200, dtype=torch.float64, generator=generator)
        rows = rows * 10 ** (2 * torch.rand(m, 1, dtype=torch.float64, generator=generator) - 1)
        given.append(rows @ rows.T)
    turns, losses = itertools.cycle(given), torch.ones(m, dtype=torch.float64)

    def run() -> int:
        aggregator(next(turns), losses)
        return 1

    return Contender(run, calls=GRAMIANS)


@functools.cache
def _gradients() -> Tensor:
    return torch.randn(TASKS, PARAMETERS, generator=torch.Generator().manual_seed(0))


def pcgrad() -> Contender:
    """Gramian, coefficients, one matrix-vector product."""
    rows = _gradients()
    aggregator = PCGrad()
    aggregator.setup(TASKS, torch.Generator().manual_seed(0))
    losses = torch.ones(TASKS, dtype=torch.float64)

    def run() -> int:
        weights = aggregator(gramian(rows), losses)
        rows.T @ weights.to(rows)
        return 1

    return Contender(run, calls=1)


def literal_pcgrad() -> Contender:
    """The algorithm on whole vectors, one pair of tasks after another, as it is written in the paper."""
    rows = _gradients()
    generator = torch.Generator().manual_seed(0)

    def run() -> int:
        total = torch.zeros_like(rows[0])
        for i, own in enumerate(rows):
            vector = own.clone()
            for j in torch.randperm(TASKS, generator=generator).tolist():
                if i == j:
                    continue
                inner = vector @ rows[j]
                if inner < 0:
                    vector -= inner / (rows[j] @ rows[j]) * rows[j]
            total += vector
        return 1

    return Contender(run, calls=1)
