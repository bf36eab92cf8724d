"""What a person sees while a run trains: a bar on a terminal, a line an epoch in a file."""

import os
import sys
import time
from collections.abc import Mapping

from mtl.tracking.base import Event, Tracker


class LineProgress(Tracker):
    """One line an evaluation; no control characters."""

    def __init__(self, label: str, total_steps: int, start_step: int = 0) -> None:
        self.label = label
        self.total_steps = total_steps
        self._start_step = start_step
        self._started = time.monotonic()

    def log(self, event: Event) -> None:
        """Show `start`, `evaluation` and `end`."""
        if event["event"] == "start":
            self._write(str(event["description"]))
        elif event["event"] == "evaluation":
            done = int(event["step"]) - self._start_step
            elapsed = time.monotonic() - self._started
            left = elapsed / max(done, 1) * (self.total_steps - int(event["step"]))
            self._write(
                f"{self.label}  epoch {round(float(event['epoch']), 2):g}/{event['epochs']}  {summarize(event)}  "
                f"{clock(elapsed)}, {clock(left)} left"
            )
        elif event["event"] == "end":
            self._write(f"{self.label}  {event['description']}")

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


REDRAW_SECONDS = 1.0
"""At most so often is the bar drawn for steps: a thread that draws by itself costs up to 3 % of a step on two cores."""


class BarProgress(Tracker):
    """A live bar with losses, metrics and time left; the description and the end as ordinary lines."""

    def __init__(self, label: str, total_steps: int, start_step: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.label = label
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[losses]}"),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task(label, total=total_steps, completed=start_step, losses="", metrics="")
        self._drawn = -REDRAW_SECONDS

    def log(self, event: Event) -> None:
        """Update the bar."""
        kind = event["event"]
        if kind == "start":
            self._console.print(str(event["description"]), highlight=False, markup=False)
            self._progress.start()
        elif kind == "step":
            self._progress.update(self._task, completed=int(event["step"]), losses="loss " + numbers(event["losses"]))
            self._draw()
        elif kind == "evaluation":
            self._progress.update(self._task, completed=int(event["step"]), metrics=summarize(event, losses=False))
            self._progress.refresh()
        elif kind == "end":
            self._progress.stop()
            self._console.print(f"{self.label}  {event['description']}", highlight=False, markup=False)

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= REDRAW_SECONDS:
            self._progress.refresh()
            self._drawn = now

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


def make_progress(kind: str, label: str, total_steps: int, start_step: int) -> Tracker | None:
    """The display for `tracking.progress`; `auto` asks whether the output is a terminal."""
    if kind == "none":
        return None
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else "lines"
    return (BarProgress if kind == "bar" else LineProgress)(label, total_steps, start_step)


def summarize(event: Event, losses: bool = True) -> str:
    """Train losses and the primary validation (else test) metrics of an `evaluation` event."""
    parts = []
    if losses and "train" in event["losses"]:
        parts.append("loss " + numbers(event["losses"]["train"]))
    split = "val" if "val" in event["metrics"] else "test"
    if split in event["metrics"]:
        by_task = {task: next(iter(metrics.values())) for task, metrics in event["metrics"][split].items()}
        name = next(iter(next(iter(event["metrics"][split].values()))))
        parts.append(f"{split} {name} " + numbers(by_task))
    return "  ".join(parts)


def numbers(values: Mapping[str, float], most: int = 4) -> str:
    """`task value` pairs; only the mean of more than `most` tasks."""
    if len(values) > most:
        return f"mean of {len(values)} {sum(values.values()) / len(values):.4g}"
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


def clock(seconds: float) -> str:
    """m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
