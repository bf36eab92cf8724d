"""Gramian methods at about the cost of an ordinary step, on ResNet-18 with 40 tasks."""

from bench import steps
from bench.problem import RESNET, Problem
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.strategies import GradientStrategy

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


def _long(text: str, period: int) -> Contender:
    """One turn, which has no part in the warm-up: before it two steps that measure, of a strategy that always does."""
    problem = Problem(RESNET, text)
    ours, every_step = problem.strategy(), problem.strategy(text.replace(f" weights_every={period}", ""))
    assert isinstance(ours, GradientStrategy)
    assert isinstance(every_step, GradientStrategy)
    every_step.source = ours.source

    def prepare() -> None:
        for _ in range(2):
            every_step.step(problem.batch)

    def run() -> int:
        ours.step(problem.batch)
        return 1

    return timed(run, prepare, calls=period, most=LONG_TURNS)


def build(name: str) -> Contender:
    """A turn is a whole period of the weights, of plain steps five."""
    period = next((int(part.partition("=")[2]) for part in name.split() if part.startswith("weights_every=")), 5)
    return _long(name.partition(":")[2], period) if period == max(PERIODS) else steps.build(RESNET, name, calls=period)


SECTION = Section(
    "ResNet-18, 40 tasks, near the cost of an ordinary step",
    "The same network. `features`: the Gramian at the shared features. `sketch`: estimated from one extra "
    "forward. `every n`: `strategy.weights_every=n`, a turn is one whole period, so that the step that measures "
    "has its share; that of 50 steps is taken once, after two steps that measure. What the steps in between cost does "
    "not depend on the method.",
    ROWS,
    build,
    limit=62,
    rounds=12,
    warmup=1,
)
