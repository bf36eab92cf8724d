"""What the W&B client has written: the transaction log of a run, read back without a server.

A log is a LevelDB log (blocks of 32 KiB, records with a header of checksum, length and kind) of protobuf messages,
after a header of 7 bytes. A log cut off by a kill ends with its last whole record.
"""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_messages(path: Path) -> Iterator[Record]:
    """The messages of one `.wandb` file."""
    content = path.read_bytes()
    assert content[:4] == b":W&B", path
    position, parts = 7, []
    while position + HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:
            position += left
            continue
        _, length, kind = HEADER.unpack_from(content, position)
        data = content[position + HEADER.size : position + HEADER.size + length]
        if kind == 0 or len(data) < length:
            return
        position += HEADER.size + length
        parts = [data] if kind in (FULL, FIRST) else [*parts, data]
        if kind in (FULL, LAST):
            message = Record()
            message.ParseFromString(b"".join(parts))
            yield message


class WandbFile:
    """One `.wandb` file.

    Attributes:
        ids, groups, tags, names: Of every run that the file speaks of.
        config: The configuration.
        history: One mapping a row.
        summary: The last value of each key.
        metrics: Name (or pattern) -> the metric whose value is its x axis.
        exit_code: None if the run did not end.
    """

    def __init__(self, path: Path) -> None:
        self.ids, self.groups, self.tags, self.names = set(), set(), set(), set()
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, str] = {}
        self.exit_code: int | None = None
        for message in read_messages(path):
            self._take(message)

    def _take(self, message: Record) -> None:
        kind = message.WhichOneof("record_type")
        if kind == "run":
            self.ids.add(message.run.run_id)
            self.groups.add(message.run.run_group)
            self.names.add(message.run.display_name)
            self.tags.add(tuple(message.run.tags))
            self._update(self.config, message.run.config.update)
        elif kind == "config":
            self._update(self.config, message.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            self._update(row, message.history.item)
            self.history.append(row)
        elif kind == "summary":
            self._update(self.summary, message.summary.update)
        elif kind == "metric":
            self.metrics[message.metric.name or message.metric.glob_name] = message.metric.step_metric
        elif kind == "exit":
            self.exit_code = message.exit.exit_code

    @staticmethod
    def _update(target: dict[str, Any], items: Any) -> None:
        for item in items:
            keys = list(item.nested_key) or [item.key]
            place = target
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = json.loads(item.value_json)


def read_run(run_dir: Path, patience: float = 60.0) -> list[WandbFile]:
    """The files of a run directory, in the order of their sessions.

    The client's own process writes the end of a file shortly after the run was finished here: that is waited for, in
    the last session, for so many seconds at most.
    """
    deadline = time.monotonic() + patience
    while True:
        found = [WandbFile(path) for path in sorted((run_dir / "wandb").glob("*run-*/*.wandb"))]
        if time.monotonic() > deadline or (found and found[-1].exit_code is not None):
            return found
        time.sleep(0.05)
