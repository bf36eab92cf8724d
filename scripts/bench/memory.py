"""Peak memory of a process, from /proc."""

from collections.abc import Callable
from pathlib import Path

from bench.problem import prepare
from bench.timing import Contender

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def check_memory() -> None:
    """Raise ImportError where peaks cannot be measured: rows that need them are left out."""
    if not CLEAR.exists():
        raise ImportError("Peak memory is read from /proc, which only Linux has.")


def highest(build: Callable[[], Contender], turns: int, threads: int) -> int:
    """Bytes that this process holds at most while it builds a contender and gives it turns, beyond what it held before.

    To be called in a process of its own.
    """
    prepare(threads, keep_memory=False)
    before = _status("VmRSS")
    CLEAR.write_text("5")  # forget the peak of the imports
    contender = build()
    for _ in range(turns):
        contender.turn()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
