"""The record: one JSON object a line."""

import json
import os
from pathlib import Path

from mtl.tracking.base import Event, Tracker, finite


class JsonlTracker(Tracker):
    """Appends every event to a file. A `checkpoint` event reaches the disk before the call returns.

    Args:
        path: The file.
        resume_step: Continue from the checkpoint of this step: whatever was written after it is cut off.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        if resume_step is not None:
            _cut(path, resume_step)
        self._file = path.open("w" if resume_step is None else "a", encoding="utf-8")

    def log(self, event: Event) -> None:
        """Append a line."""
        self._file.write(json.dumps(finite(event), allow_nan=False, separators=(",", ":")) + "\n")
        if event["event"] != "step":
            self._file.flush()
        if event["event"] == "checkpoint":
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is buffered."""
        self._file.close()


def read_events(path: Path) -> list[dict[str, object]]:
    """All whole lines of a record; a line cut off by a crash is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        events.append(event)
    return events


def first_start(path: Path) -> dict[str, object]:
    """The `start` event of the first attempt; empty if there is no record of one."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as lines:
        line = lines.readline()
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event if event["event"] == "start" else {}


def last_checkpoint(path: Path, step: int) -> dict[str, object] | None:
    """The `checkpoint` event of `step`, if the record has one."""
    found = [event for event in read_events(path) if event["event"] == "checkpoint" and event["step"] == step]
    return found[0] if found else None


def _cut(path: Path, step: int) -> None:
    """Keep the lines up to the first checkpoint of `step`, in a new file that then takes the place of the old."""
    kept = []
    for event in read_events(path):
        kept.append(json.dumps(event, separators=(",", ":")))
        if event["event"] == "checkpoint" and event["step"] == step:
            break
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
