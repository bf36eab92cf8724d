"""What an offline run of W&B holds, read from its file."""

import json
import struct
from pathlib import Path
from typing import NamedTuple

from wandb.proto import wandb_internal_pb2

BLOCK = 32768


class OfflineRun(NamedTuple):
    """Of one offline-run directory."""

    run_id: str
    config: dict
    history: dict  # step -> key -> value


def read_offline_run(directory: Path) -> OfflineRun:
    """Read `offline-run-*/run-ID.wandb`."""
    [path] = directory.glob("*.wandb")
    run_id, config, history = "", {}, {}
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run_id = record.run.run_id
            config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            history[values["_step"]] = values
    return OfflineRun(run_id, config, history)


def _records(data: bytes):
    """Records of a LevelDB log: blocks of 32 KiB; a record is cut where a block ends."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
