"""The last lines of a sweep: what failed, and how to go on."""

import shlex
from collections.abc import Callable

from mtl.sweeps.display import first_line
from mtl.sweeps.manifest import SweepJob
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.queue import is_open
from mtl.sweeps.state import State

MOST = 20
"""Failed or diverged jobs that are listed one by one."""


def report(monitor: Monitor, command: str) -> str:
    """The text; its last lines say how to go on, or where the results are.

    Args:
        monitor: The jobs as they are now.
        command: What continues the sweep.
    """
    path = shlex.quote(str(monitor.directory.path))
    lines = [
        *_listing(monitor, State.DIVERGED, lambda _: []),
        *_listing(monitor, State.FAILED, lambda job: _again(monitor, job)),
        monitor.counts(),
    ]
    failed = monitor.with_state(State.FAILED)
    left = monitor.with_state(State.WAITING, State.INTERRUPTED, State.RUNNING)
    retried = [job for job in failed if is_open(monitor.statuses[job.number], retry=False)]
    if left or retried:
        what = [f"goes on with {len(left)}"] * bool(left) + [f"tries {len(retried)} failed once more"] * bool(retried)
        lines.append(f"The same command {' and '.join(what)}: {command}")
    if len(failed) > len(retried):
        lines.append(
            f"{len(failed) - len(retried)} failed more than once; `retry=true` tries them again: {command} retry=true"
        )
    lines.append(f"All jobs: python scripts/sweep.py dir={path}")
    return "".join(line + "\n" for line in lines)


def is_failure(monitor: Monitor) -> bool:
    """Whether a job has no result; one that diverged has."""
    return bool(monitor.with_state(State.FAILED, State.WAITING, State.INTERRUPTED, State.RUNNING))


def _listing(monitor: Monitor, state: State, details: Callable[[SweepJob], list[str]]) -> list[str]:
    jobs = monitor.with_state(state)
    lines = []
    for job in jobs[:MOST]:
        status = monitor.statuses[job.number]
        times = f" ({status.failures} times)" if state is State.FAILED and status.failures > 1 else ""
        lines.append(f"{state}{times}: {job.directory}: {first_line(status.message)}")
        lines += details(job)
    if len(jobs) > MOST:
        lines.append(f"... and {len(jobs) - MOST} more {state}")
    return lines


def _again(monitor: Monitor, job: SweepJob) -> list[str]:
    path = monitor.directory.job(job)
    return [f"    directory: {path}", f"    this job alone: python scripts/train.py resume={shlex.quote(str(path))}"]
