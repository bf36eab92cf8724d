"""All jobs of a sweep at a glance: their states as the run directories have them, and what changed."""

from collections import Counter
from collections.abc import Sequence

from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.record import Progress, RecordFollower
from mtl.sweeps.state import DONE, JobStatus, State, read_status


class Monitor:
    """States and progress of the jobs; it only reads.

    Args:
        directory: Of the sweep.
        jobs: Of the sweep; more can be added.
    """

    def __init__(self, directory: SweepDirectory, jobs: Sequence[SweepJob]) -> None:
        self.directory = directory
        self.jobs: list[SweepJob] = []
        self.statuses: dict[int, JobStatus] = {}
        self.progress: dict[int, Progress] = {}
        self._followers: dict[int, RecordFollower] = {}
        for job in jobs:
            self.add(job)

    def add(self, job: SweepJob) -> None:
        """Watch one more job."""
        self.jobs.append(job)
        path = self.directory.job(job)
        self._followers[job.number] = RecordFollower(path)
        self.statuses[job.number] = read_status(path)
        self.progress[job.number] = self._followers[job.number].read()

    def refresh(self) -> list[SweepJob]:
        """Read again; returns the jobs whose state or number of failures changed."""
        changed = []
        for job in self.jobs:
            before = self.statuses[job.number]
            if before.state in DONE:
                continue
            now = read_status(self.directory.job(job))
            if now.state is not State.WAITING:
                self.progress[job.number] = self._followers[job.number].read()
            if now != before:
                self.statuses[job.number] = now
                changed.append(job)
        return changed

    def with_state(self, *states: State) -> list[SweepJob]:
        """The jobs in one of these states."""
        return [job for job in self.jobs if self.statuses[job.number].state in states]

    def counts(self) -> str:
        """`60 jobs: 51 completed, 3 diverged, 6 failed`."""
        found = Counter(status.state for status in self.statuses.values())
        order = (State.COMPLETED, State.DIVERGED, State.FAILED, State.RUNNING, State.INTERRUPTED, State.WAITING)
        parts = [f"{found[state]} {state}" for state in order if found[state]]
        return f"{len(self.jobs)} {'job' if len(self.jobs) == 1 else 'jobs'}: {', '.join(parts) or 'none yet'}"
