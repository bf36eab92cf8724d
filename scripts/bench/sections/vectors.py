"""PCGrad alone, from given gradients."""

import functools

import torch
from torch import Tensor

from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.aggregation import PCGrad
from mtl.gradients import gramian

NAME = "vectors"
TASKS, PARAMETERS = 40, 11_000_000
"""Of the given gradients: CelebA's tasks, and about a ResNet-18."""
BAR = 1 / 20


@functools.cache
def _gradients() -> Tensor:
    return torch.randn(TASKS, PARAMETERS, generator=torch.Generator().manual_seed(0))


def coefficients() -> Contender:
    """Gramian, coefficients, one matrix-vector product."""
    rows = _gradients()
    aggregator = PCGrad()
    aggregator.setup(TASKS, torch.Generator().manual_seed(0))
    losses = torch.ones(TASKS, dtype=torch.float64)

    def run() -> int:
        weights = aggregator(gramian(rows), losses)
        rows.T @ weights.to(rows)
        return 1

    return timed(run, calls=1)


def literal() -> Contender:
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

    return timed(run, calls=1, most=1)


SECTION = Section(
    "PCGrad of given gradients",
    f"{TASKS} vectors of {PARAMETERS:,} normal float32 numbers. Ours: Gramian, coefficients, one matrix-vector "
    "product. Literal: the paper's two loops over whole vectors, measured once.",
    [Row(NAME, f"pcgrad of {TASKS} given gradients of {PARAMETERS:,}, ours / literal vectors", "ours", "literal", BAR)],
    lambda name: coefficients() if name == "ours" else literal(),
    limit=10,
    rounds=3,
    least=1,
    warmup=1,
)
