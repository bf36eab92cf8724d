"""Weights alone, from given Gramians."""

import itertools

import torch
from hydra.utils import instantiate

from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.aggregation import GramianWeighting
from mtl.config.catalog import catalog

NAME = "solver"
GRAMIANS = 20
BARS = {3: 1e-3, 40: 10e-3}
"""Number of tasks -> seconds."""


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

    return timed(run, calls=GRAMIANS)


def build(name: str) -> Contender:
    """`NAME m`."""
    method, _, m = name.partition(" ")
    return solve(method, int(m))


SECTION = Section(
    "Weights from a given Gramian",
    f"The method alone, at its defaults, on {GRAMIANS} Gramians in turn (rows of normal numbers, norms up to 100 "
    "apart); the bar is for the time itself.",
    [
        Row(NAME, f"{name}, m = {m}", f"{name} {m}", (), seconds, "value")
        for m, seconds in BARS.items()
        for name in solvers()
    ],
    build,
    limit=5,
)
