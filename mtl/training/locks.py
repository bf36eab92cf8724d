"""A file as a lock between processes, free again when its holder is gone."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ATTEMPTS, PAUSE = 20, 0.05
"""For a second: `is_held` holds the lock for an instant."""


def is_held(path: Path) -> bool:
    """Whether a process holds the lock; False without such a file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def hold(file: IO[str], busy: Exception) -> Iterator[None]:
    """Hold the lock of an open file, and close it in the end; raises `busy` if another process holds it."""
    with file:
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if attempt == ATTEMPTS - 1:
                    raise busy from error
                time.sleep(PAUSE)
        yield
