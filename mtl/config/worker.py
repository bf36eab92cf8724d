"""A worker process of a sweep: `python -m mtl.config.worker`. See mtl/sweeps/pool.py for what is said on its pipes."""

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from mtl.config.work import work

OUTPUT = "output.log"
"""In a run directory: what the job printed, and its traceback if it failed."""
PATIENCE = 8.0
"""Seconds in which a run has to close its files when the launcher is gone; then the process ends anyway."""


def main() -> int:
    """Work until there is no more input; returns the exit code."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(inbox, busy), daemon=True).start()
    faulthandler.enable()
    try:
        while (line := inbox.get()) is not None:
            busy.set()
            job = json.loads(line)
            path = Path(job["path"])
            _print_to(path / OUTPUT)
            status = work(path, job["config"], job["threads"])
            sys.stdout.flush()
            sys.stderr.flush()
            busy.clear()
            answers.write(json.dumps({"number": job["number"], "status": status}) + "\n")
            answers.flush()
    except KeyboardInterrupt:  # from _listen; the run has closed its files
        return 0
    return 0


def _listen(inbox: "queue.SimpleQueue[str | None]", busy: threading.Event) -> None:
    for line in sys.stdin:
        inbox.put(line)
    inbox.put(None)
    if busy.is_set():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(PATIENCE)
    os._exit(1)


def _print_to(path: Path) -> None:
    """Send everything that this process prints, below Python too, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    sys.exit(main())
