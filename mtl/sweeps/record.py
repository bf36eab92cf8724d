"""How far a running job is, from its record."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.sweeps.state import Attempts
from mtl.training.run_directory import RunDirectory

UNREADABLE = (ValueError, KeyError, TypeError)
"""What a line raises that is no event."""


@dataclass(frozen=True)
class Progress:
    """What the record of a job says so far.

    Attributes:
        step: Optimizer steps done, as far as written.
        total_steps: Of the whole run; 0 if it has not begun.
        seconds_left: Estimate from the pace of this attempt; None before its first step.
        best: Best validation score so far, in words; empty without one.
    """

    step: int = 0
    total_steps: int = 0
    seconds_left: float | None = None
    best: str = ""


class RecordFollower:
    """Reads what is new in a metrics.jsonl at each call; begins again where a resumed run cut its record back."""

    def __init__(self, path: Path) -> None:
        self._record = RunDirectory(path).record
        self._attempts = Attempts(path)
        self._begin()

    def read(self) -> Progress:
        """The progress now."""
        try:
            size, inode = self._record.stat().st_size, self._record.stat().st_ino
        except FileNotFoundError:
            return Progress()
        if inode != self._inode or size < self._position:
            self._begin(inode)
        with self._record.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        try:
            self._take_all(text)
        except UNREADABLE:  # begun anew in its place, and longer by now: this is no line's start
            self._begin(inode)
            with suppress(*UNREADABLE):  # a damaged record does not end those who look at it
                self._take_all(self._record.read_bytes())
        return Progress(self._step, self._total, self._left(), self._best_text)

    def _begin(self, inode: int | None = None) -> None:
        self._inode, self._position = inode, 0
        self._step = self._from = self._total = 0
        self._tasks: Mapping[str, Any] = {}
        self._best = -math.inf
        self._best_text = ""

    def _take_all(self, text: bytes) -> None:
        """Take whole lines; what comes after them is read again when it is whole."""
        whole = text.rpartition(b"\n")[0]
        self._position += len(whole) + bool(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, event: Mapping[str, Any]) -> None:
        self._step = int(event["step"])
        if event["event"] == "start":
            self._from = self._step
            self._total = int(event.get("total_steps", 0))
            self._tasks = event.get("tasks", {})
        elif event["event"] == "evaluation":
            score, text = best_words(event["metrics"], self._tasks)
            if score is not None and score > self._best:
                self._best, self._best_text = score, text

    def _left(self) -> float | None:
        started = [event["time"] for event in self._attempts.read() if event["event"] == "started"]
        if self._step <= self._from or not started:
            return None
        elapsed = time.time() - float(started[-1])
        return elapsed / (self._step - self._from) * (self._total - self._step)


def best_words(metrics: Mapping[str, Any], tasks: Mapping[str, Any]) -> tuple[float | None, str]:
    """The validation score of an evaluation (higher is better) and how to say it; (None, "") without one.

    The mean over tasks of the primary metrics, as `trainer.selection=best_val` uses it; tasks without a number are left
    out here, since only the end of the run tells whether they ever have one.

    Args:
        metrics: Split -> task -> metric -> value.
        tasks: Task -> metric -> whether it is `primary`, and `higher_is_better`.
    """
    values: list[float] = []
    signs: list[int] = []
    names: list[str] = []
    for task, described in tasks.items():
        for name, about in described.items():
            value = metrics.get("val", {}).get(task, {}).get(name)
            if about["primary"] and value is not None:
                values.append(value)
                signs.append(1 if about["higher_is_better"] else -1)
                names.append(name)
    if not values:
        return None, ""
    score = sum(sign * value for sign, value in zip(signs, values, strict=True)) / len(values)
    if len(set(names)) == 1:
        return score, f"{names[0]} {signs[0] * score:.4g}"
    return score, f"score {score:.4g}"
