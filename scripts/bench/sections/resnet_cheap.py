"""Gramian methods at about the cost of an ordinary step, on ResNet-18 with 40 tasks."""

from dataclasses import replace

from bench import steps
from bench.problem import RESNET
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender

NAME = "resnet_cheap"
PERIODS = {10: 2.5, 50: 1.35}
"""weights_every -> bar."""
LONG_TURNS = 1
"""Of the longest period: eight seconds each."""
SKETCH, SKETCH_EVERY = "gramian=sketch", "gramian=sketch ema=0.7 weights_every=5"

ROWS = [
    Row(NAME, "mgda_ub (features) / uniform", "ours:mgda_ub", "uniform", 1.15),
    *(
        Row(NAME, f"{name}, sketch / uniform", f"ours:{name} {SKETCH}", "uniform", 1.35)
        for name in ("mgda", "cagrad", "nash_mtl")
    ),
    *(
        Row(NAME, f"{name}, sketch every 5 steps with EMA / uniform", f"ours:{name} {SKETCH_EVERY}", "uniform", 1.12)
        for name in ("mgda", "cagrad", "nash_mtl")
    ),
    *(
        Row(NAME, f"{name}, ghost every {n} / uniform", f"ours:{name} gramian=ghost weights_every={n}", "uniform", bar)
        for n, bar in PERIODS.items()
        for name in ("mgda", "nash_mtl")
    ),
]


def build(name: str) -> Contender:
    """A turn is a whole period of the weights, of plain steps five."""
    period = next((int(part.partition("=")[2]) for part in name.split() if part.startswith("weights_every=")), 5)
    found = steps.build(RESNET, name, calls=period)
    return replace(found, most=LONG_TURNS) if period == max(PERIODS) else found


SECTION = Section(
    "ResNet-18, 40 tasks, near the cost of an ordinary step",
    "The same network. `features`: the Gramian at the shared features. `sketch`: estimated from one extra "
    "forward. `every n`: `strategy.weights_every=n`, a turn is one whole period, so that the step that measures "
    "has its share. What the steps in between cost does not depend on the method.",
    ROWS,
    build,
    limit=62,
    rounds=12,
    warmup=1,
)
