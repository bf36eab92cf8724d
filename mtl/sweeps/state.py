"""What has become of a job, read from its run directory: a killed launcher leaves the truth there."""

import json
import os
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mtl.training.run_directory import RunDirectory

ATTEMPTS = "attempts.jsonl"


class State(StrEnum):
    """Where a job stands. `diverged` is a result; `interrupted` ones continue from their last checkpoint."""

    RUNNING = "running"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DIVERGED = "diverged"
    COMPLETED = "completed"


DONE = (State.COMPLETED, State.DIVERGED)


@dataclass(frozen=True)
class JobStatus:
    """The state of a job.

    Attributes:
        state: The state.
        failures: How many of its attempts failed.
        message: Why it diverged or failed; empty otherwise.
    """

    state: State
    failures: int = 0
    message: str = ""


class Attempts:
    """The attempts at a job, in its run directory: one line when one starts, one when it fails.

    A line is written by one write() call at the end of the file, and only by the process that works on the job, or
    after that process is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / ATTEMPTS

    def started(self) -> None:
        """This process begins to work on the job."""
        self._add({"event": "started", "pid": os.getpid(), "host": socket.gethostname()})

    def failed(self, message: str) -> None:
        """The job raised an exception, or its process is gone."""
        self._add({"event": "failed", "message": message})

    def read(self) -> list[dict[str, Any]]:
        """All events; a line cut off by a crash is left out."""
        if not self.path.is_file():
            return []
        events = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    def _add(self, event: dict[str, Any]) -> None:
        line = json.dumps({**event, "time": time.time()}) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())


def read_status(path: Path) -> JobStatus:
    """The state of the job whose run directory is `path`; nothing there means that it waits.

    An attempt that started and neither failed nor ended, and that no process works on, was interrupted.
    """
    directory = RunDirectory(path)
    attempts = Attempts(path).read()
    failures = [event for event in attempts if event["event"] == "failed"]
    summary = directory.finished()
    status = summary["status"] if summary else None
    if summary is not None and status in DONE:
        return JobStatus(State(status), len(failures), summary["message"] or "")
    if directory.is_locked():
        return JobStatus(State.RUNNING, len(failures))
    if attempts and attempts[-1]["event"] == "failed":
        return JobStatus(State.FAILED, len(failures), failures[-1]["message"])
    if summary is not None and status == "failed" and not attempts:  # of a run that was not begun by a sweep
        return JobStatus(State.FAILED, 1, summary["message"] or "")
    return JobStatus(State.INTERRUPTED if directory.is_claimed() else State.WAITING, len(failures))
