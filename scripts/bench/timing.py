"""Interleaved timing: every contender gets a turn in every round, so that drift of the machine cancels in ratios."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import track

MIN_ROUNDS = 3


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Attributes:
        run: One call; returns the units of work it did (optimizer steps, samples).
        prepare: Called before each turn, untimed.
        calls: Calls in one turn.
    """

    run: Callable[[], int]
    prepare: Callable[[], None] = lambda: None
    calls: int = 4


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@contextmanager
def no_collection() -> Iterator[None]:
    """Switch the garbage collector off."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def measure(
    contenders: Mapping[str, Contender], rounds: int, warmup: int, limit: float, label: str, least: int = MIN_ROUNDS
) -> dict[str, list[float]]:
    """Seconds per unit of work, one number per round, for every contender.

    Each round gives every contender one turn of `calls` calls in a row, in an order drawn anew (from a fixed seed), so
    that no contender always follows the same one. The garbage collector runs between rounds only.

    Args:
        contenders: By name.
        rounds: Measured rounds, >= 1.
        warmup: Rounds before that, not recorded.
        limit: Seconds after which no further round begins, once `least` are recorded: for a machine under load.
        label: For the progress display.
        least: Rounds in any case.
    """
    stream = random.Random(0)
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for index in track(range(warmup + rounds), label, transient=True):
        if index >= warmup + least and time.perf_counter() - began > limit:
            break
        stream.shuffle(names)
        with no_collection():
            turns = {name: _turn(contenders[name]) for name in names}
        if index >= warmup:
            for name, value in turns.items():
                seconds[name].append(value)
    return seconds


def _turn(contender: Contender) -> float:
    contender.prepare()
    units = 0
    start = time.perf_counter()
    for _ in range(contender.calls):
        units += contender.run()
    return (time.perf_counter() - start) / units
