"""Checkpoints: whole on disk or not there, and the same bytes for the same state."""

import io
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl.errors import RunDirectoryError


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` so that `path` holds the old or the new checkpoint whole, whatever happens.

    Written to a neighbour, flushed to the disk, then renamed. Equal states give equal bytes.
    """
    buffer = io.BytesIO()
    torch.save(canonical(state), buffer)
    write_atomically(path, buffer.getbuffer())


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write, fsync, rename, fsync the directory."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint (tensors and plain values only).

    Raises:
        RunDirectoryError: missing or damaged.
    """
    if not path.is_file():
        raise RunDirectoryError(
            f"No checkpoint at {path}. The run was stopped before its first checkpoint, or this is no run directory; "
            "start it again in a new directory."
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunDirectoryError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "It is damaged or was written by something else; start the run again in a new directory."
        ) from error
    return state


def canonical(value: Any) -> Any:
    """A copy without shared objects and views, so that its serialised bytes depend on its value alone."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, Mapping):
        return {canonical(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, tuple):
        return tuple([canonical(item) for item in value])
    if isinstance(value, float):
        return float(value)
    return value


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator that a model on `device` or a data set might draw from."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one is what is saved
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
    }


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Continue from `rng_state()`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numpy_keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(numpy_keys, dtype=np.uint32), *rest))  # noqa: NPY002
