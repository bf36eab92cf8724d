"""A section of the benchmark: rows that are measured side by side in one process of their own."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bench.problem import prepare
from bench.rows import Row
from bench.timing import MIN_ROUNDS, Contender, Measured, measure, set_clock
from mtl.errors import UserError

NAMES = (
    "lenet",
    "ghost_small",
    "dense",
    "resnet_exact",
    "resnet_ghost",
    "resnet_cheap",
    "sequential",
    "mao",
    "trainer",
    "diagnostics",
    "solver",
    "vectors",
    "loader",
    "reading",
    "memory",
    "startup",
)
"""Modules of `bench.sections`, in the order of the page; each has a `SECTION`."""


@dataclass(frozen=True)
class Section:
    """What is measured together.

    Attributes:
        title: Heading on the page.
        text: What the contenders are, for the page.
        rows: Comparisons.
        build: Contender by name.
        limit: Seconds after which no further round begins.
        rounds: At most.
        least: Rounds in any case.
        warmup: Rounds that are not recorded.
        processes: Share rounds and time between them, one after the other. Networks of one kind differ by 1 to 2 %
            within a process, by where their tensors happen to lie; of several processes that is averaged.
    """

    title: str
    text: str
    rows: Sequence[Row]
    build: Callable[[str], Contender]
    limit: float
    rounds: int = 30
    least: int = MIN_ROUNDS
    warmup: int = 2
    processes: int = 1


def load(name: str) -> Section:
    """The section of that name."""
    section = import_module(f"bench.sections.{name}").SECTION
    assert isinstance(section, Section)
    return section


def run(name: str, threads: int, rounds: int | None, share: float, clock: str) -> Measured:
    """Measure a section in new processes; one number per round of all of them. Arguments as of `run_part`.

    Raises:
        BrokenProcessPool: a process was killed.
    """
    processes = load(name).processes
    found: Measured = {}
    for part in range(processes):
        for contender, numbers in apart(run_part, name, part, threads, rounds, share, clock).items():
            found.setdefault(contender, []).extend(numbers)
    return found


def run_part(name: str, part: int, threads: int, rounds: int | None, share: float, clock: str) -> Measured:
    """Measure a process's part of a section in this process.

    Args:
        name: Of the section.
        part: Which of the section's processes this is.
        threads: Of torch.
        rounds: At most, instead of the section's own number.
        share: Of the section's time limit.
        clock: `wall` or `cpu`.
    """
    set_clock(clock)
    section = load(name)
    prepare(threads)
    contenders: dict[str, Contender] = {}
    for contender in dict.fromkeys(name for row in section.rows for name in row.contenders):
        try:
            contenders[contender] = section.build(contender)
        except (UserError, HydraException, OmegaConfBaseException, ImportError):
            continue  # an option or a package that is not there: its rows say "not measured"
    whole = section.rounds if rounds is None else min(rounds, section.rounds)
    turns = math.ceil(whole / section.processes)
    least, warmup = min(section.least, turns), min(section.warmup, turns)
    return measure(contenders, turns, warmup, section.limit * share / section.processes, name, least, part)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process and return what it returns: memory and caches begin clean.

    Raises:
        BrokenProcessPool: the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
