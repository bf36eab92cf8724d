"""What a person sees of a sweep: a live table on a terminal, one calm line an event elsewhere."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mtl.sweeps.manifest import SweepJob
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.record import Progress
from mtl.sweeps.state import DONE, JobStatus, State
from mtl.tracking.progress import clock

STYLES = {
    State.RUNNING: "cyan",
    State.WAITING: "dim",
    State.INTERRUPTED: "yellow",
    State.FAILED: "bold red",
    State.DIVERGED: "magenta",
    State.COMPLETED: "green",
}
FIRST = (State.RUNNING, State.FAILED, State.DIVERGED, State.INTERRUPTED, State.COMPLETED, State.WAITING)
"""Whose rows are kept where a table is longer than the terminal."""
BAR = 12


class Display(ABC):
    """Shows a monitor; closed in any case."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    @abstractmethod
    def update(self, changed: Sequence[SweepJob]) -> None:
        """Show what is known now; `changed` jobs have another state than before."""

    def close(self) -> None:  # noqa: B027 - not every display holds the terminal
        """Give the terminal back."""


class Silence(Display):
    """Nothing until the report at the end."""

    def update(self, changed: Sequence[SweepJob]) -> None:
        """Show nothing."""


class Lines(Display):
    """A line when a job starts and one when it ends; no control characters."""

    def update(self, changed: Sequence[SweepJob]) -> None:
        """Write the lines."""
        done = len(self.monitor.with_state(*DONE))
        for job in changed:
            status = self.monitor.statuses[job.number]
            if status.state in (State.WAITING, State.INTERRUPTED):  # about to begin; at the end the report tells
                continue
            words = _outcome(status, self.monitor.progress[job.number])
            sys.stdout.write(f"[{done}/{len(self.monitor.jobs)} done] {job.directory}  {words}\n")
        sys.stdout.flush()


class LiveTable(Display):
    """A table that is drawn again in its place; as many jobs as the terminal has lines for."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(monitor)
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def update(self, changed: Sequence[SweepJob]) -> None:  # noqa: ARG002 - it draws all jobs
        """Draw."""
        self._live.update(job_table(self.monitor, self._console.size.height - 4), refresh=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._live.stop()


def make_display(kind: str, monitor: Monitor) -> Display:
    """The display for `tracking.progress`; `auto` asks whether the output is a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else "lines"
    kinds: dict[str, Callable[[Monitor], Display]] = {"bar": LiveTable, "lines": Lines, "none": Silence}
    return kinds[kind](monitor)


def job_table(monitor: Monitor, most: int | None = None) -> Group:
    """A row a job; at most `most` of them, the rest as a number."""
    jobs = monitor.jobs
    hidden = 0 if most is None else max(0, len(jobs) - max(most, 1))
    if hidden:
        urgent = sorted(jobs, key=lambda job: (FIRST.index(monitor.statuses[job.number].state), job.number))
        kept = {job.number for job in urgent[: len(jobs) - hidden]}
        jobs = [job for job in jobs if job.number in kept]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("job", "state", "progress", "time left", "best on validation"):
        table.add_column(title, no_wrap=True, justify="right" if title == "time left" else "left")
    for job in jobs:
        status, progress = monitor.statuses[job.number], monitor.progress[job.number]
        left = progress.seconds_left if status.state is State.RUNNING else None
        table.add_row(
            Text(job.directory),
            Text(status.state, style=STYLES[status.state]),
            _bar(progress),
            "" if left is None else clock(left),
            progress.best,
        )
    return Group(table, Text(monitor.counts() + (f" ({hidden} not shown)" if hidden else "")))


def _bar(progress: Progress) -> str:
    if not progress.total_steps:
        return ""
    filled = BAR * progress.step // progress.total_steps
    return f"{'#' * filled}{'.' * (BAR - filled)} {progress.step}/{progress.total_steps}"


def _outcome(status: JobStatus, progress: Progress) -> str:
    words = "started" if status.state is State.RUNNING else str(status.state)
    if status.state is State.RUNNING and progress.step:
        words = f"continued from step {progress.step}"
    if status.state is State.COMPLETED and progress.best:
        words += f", best {progress.best}"
    return f"{words}: {first_line(status.message)}" if status.message else words


def first_line(message: str, most: int = 200) -> str:
    """The first line of a message, cut to `most` characters."""
    line = message.strip().splitlines()[0] if message.strip() else ""
    return line if len(line) <= most else line[: most - 3] + "..."
