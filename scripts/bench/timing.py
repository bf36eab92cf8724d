"""Interleaved measuring: every contender gets a turn in every round, so that drift of the machine cancels in ratios."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import track

MIN_ROUNDS = 3
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu`: seconds that this process computed; with one thread they hold on a busy machine too."""
_chosen = ["wall"]


def set_clock(name: str) -> None:
    """Choose what `timed` reads in this process."""
    _chosen[0] = name


def clock_name() -> str:
    """`wall` or `cpu`."""
    return _chosen[0]


@dataclass(frozen=True)
class Contender:
    """Something that is measured.

    Attributes:
        turn: One turn; returns what is measured per unit of work: seconds, or bytes.
        most: Takes part in so many rounds at most and not in the warm-up: for what takes very long.
        turns: In a round, whose number is their median: odd; for rows whose bar is as wide as the spread of a turn.
    """

    turn: Callable[[], float]
    most: int | None = None
    turns: int = 1

    def __post_init__(self) -> None:
        assert self.turns % 2, "of two turns the median is their mean, which one slow turn spoils"


def timed(
    run: Callable[[], int], prepare: Callable[[], None] = lambda: None, calls: int = 4, most: int | None = None
) -> Contender:
    """A contender whose calls are timed.

    Args:
        run: One call; returns the units of work it did (optimizer steps, samples).
        prepare: Called before each turn, untimed.
        calls: Calls in one turn.
        most: Of `Contender`.
    """

    def turn() -> float:
        prepare()
        units, clock = 0, CLOCKS[_chosen[0]]
        start = clock()
        for _ in range(calls):
            units += run()
        return (clock() - start) / units

    return Contender(turn, most)


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


Measured = dict[str, list[float | None]]
"""Contender -> one number per round; None in rounds that it did not take part in."""


def measure(
    contenders: Mapping[str, Contender],
    rounds: int,
    warmup: int,
    limit: float,
    label: str,
    least: int = MIN_ROUNDS,
    seed: int = 0,
) -> Measured:
    """One number per round for every contender.

    Each round gives every contender its turns, in an order drawn anew, so that no contender always follows the same
    one. The garbage collector runs between rounds only.

    Args:
        contenders: By name.
        rounds: Measured rounds, >= 1.
        warmup: Rounds before that, not recorded.
        limit: Seconds after which no further round begins, once `least` are recorded: a slow or busy machine measures
            fewer rounds, not longer.
        label: For the progress display.
        least: Rounds in any case.
        seed: Of the orders.
    """
    stream = random.Random(seed)
    order = [name for name, contender in contenders.items() for _ in range(contender.turns)]
    found: Measured = {name: [] for name in contenders}
    began = time.perf_counter()
    for index in track(range(warmup + rounds), label, transient=True):
        if index >= warmup + least and time.perf_counter() - began > limit:
            break
        stream.shuffle(order)
        values: dict[str, list[float]] = {name: [] for name in contenders}
        with no_collection():
            for name in order:
                most = contenders[name].most
                if most is None or warmup <= index < warmup + most:
                    values[name].append(contenders[name].turn())
        if index >= warmup:
            for name, own in values.items():
                found[name].append(statistics.median(own) if own else None)
    return found
