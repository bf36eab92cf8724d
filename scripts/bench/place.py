"""Where what the benchmark makes lies until its process ends."""

import tempfile
from functools import cache
from pathlib import Path


@cache
def place(name: str) -> Path:
    """A directory for one kind of data."""
    path = Path(_temporary().name) / name
    path.mkdir()
    return path


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Goes at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="mtl-bench-")
