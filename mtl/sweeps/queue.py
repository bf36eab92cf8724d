"""Which jobs of a sweep are to be started, in which order."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.state import DONE, Attempts, JobStatus, State, read_status

ATTEMPTS_ALLOWED = 2
"""A failed job is tried again by the next call, once."""
ORDER = (State.INTERRUPTED, State.WAITING, State.FAILED, State.RUNNING)


def is_open(status: JobStatus, retry: bool) -> bool:
    """Whether a call has something to do for a job; one that another process works on is waited for.

    Args:
        status: Of the job.
        retry: Try failed jobs however often they failed.
    """
    if status.state is State.FAILED:
        return retry or status.failures < ATTEMPTS_ALLOWED
    return status.state not in DONE


def open_jobs(directory: SweepDirectory, jobs: Sequence[SweepJob], retry: bool) -> list[SweepJob]:
    """The jobs that a call has something to do for: interrupted ones first, then new, then failed ones."""
    found = [(read_status(directory.job(job)), job) for job in jobs]
    chosen = [(ORDER.index(status.state), job.number, job) for status, job in found if is_open(status, retry)]
    return [job for _, _, job in sorted(chosen, key=lambda entry: entry[:2])]


class JobQueue:
    """The open jobs of a sweep, for a pool of workers.

    Args:
        directory: Of the sweep.
        jobs: To be done.
        threads: For each job.
    """

    def __init__(self, directory: SweepDirectory, jobs: Sequence[SweepJob], threads: int) -> None:
        self._directory = directory
        self._jobs = list(jobs)
        self._threads = threads

    def next(self) -> SweepJob | None:
        """The first job that no other process works on; one that another process has finished is dropped."""
        for job in list(self._jobs):
            state = read_status(self._directory.job(job)).state
            if state is not State.RUNNING:
                self._jobs.remove(job)
            if state not in (*DONE, State.RUNNING):
                return job
        return None

    def is_open(self) -> bool:
        """Whether a job is left."""
        return bool(self._jobs)

    def request(self, job: SweepJob) -> Mapping[str, Any]:
        """For mtl/config/worker.py."""
        path = self._directory.job(job).resolve()
        return {"number": job.number, "path": str(path), "config": job.config, "threads": self._threads}

    def ended(self, job: SweepJob, answer: Mapping[str, Any]) -> None:
        """Another process was quicker: wait for it."""
        if answer["status"] == State.RUNNING:
            self._jobs.append(job)

    def lost(self, job: SweepJob, reason: str) -> None:
        """Its process was killed or crashed: that is a failed attempt, which only the launcher can know."""
        record_loss(self._directory, job, reason)


def record_loss(directory: SweepDirectory, job: SweepJob, reason: str) -> None:
    """Note that the process of a job is gone, unless the job had its result by then."""
    path = directory.job(job)
    path.mkdir(parents=True, exist_ok=True)
    if read_status(path).state not in DONE:
        Attempts(path).failed(reason)
