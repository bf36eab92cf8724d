"""The command line of scripts/sweep.py."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mtl.errors import ConfigError
from mtl.sweeps.display import job_table, make_display
from mtl.sweeps.manifest import SweepDirectory
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.report import report
from mtl.sweeps.state import State

SECONDS = 2.0


def watch(arguments: Sequence[str]) -> int:
    """Show the sweep in `dir=`; with `watch=true` until none of its jobs runs or is going to. Returns the exit code."""
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if (
        not options.get("dir")
        or set(options) - {"dir", "watch"}
        or options.get("watch", "false") not in ("true", "false")
    ):
        raise ConfigError(f"Arguments are dir=SWEEP_DIR [watch=true]. Found: {' '.join(arguments) or 'nothing'}.")
    directory = SweepDirectory(Path(options["dir"]))
    manifest = directory.read()
    monitor = Monitor(directory, manifest.jobs)
    if options.get("watch") == "true":
        display = make_display("auto", monitor)
        try:
            goes_on = True
            while goes_on:
                goes_on = directory.is_locked()  # asked first: what happens from here on is seen by the last look
                for job in directory.read().jobs[len(monitor.jobs) :]:  # of a search, which chooses them on the way
                    monitor.add(job)
                display.update(monitor.refresh())
                goes_on = goes_on or bool(monitor.with_state(State.RUNNING))
                if goes_on:
                    time.sleep(SECONDS)
        finally:
            display.close()
    else:
        Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(job_table(monitor))
    sys.stdout.write(report(monitor, manifest.command))
    return 0
