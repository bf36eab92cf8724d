"""Worker processes on this machine: each does one job after another, and none can take another with it."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from mtl.sweeps.manifest import SweepJob

GRACE = 10.0
"""Seconds that a worker has to end its run in good order when the sweep is stopped."""


class Source(Protocol):
    """Where jobs come from, and where news of them go."""

    def next(self) -> SweepJob | None:
        """A job that can be started now, if there is one."""

    def is_open(self) -> bool:
        """Whether `next` can still give one, now or later."""

    def request(self, job: SweepJob) -> Mapping[str, Any]:
        """What a worker is told about a job."""

    def ended(self, job: SweepJob, answer: Mapping[str, Any]) -> None:
        """A worker answered for its job."""

    def lost(self, job: SweepJob, reason: str) -> None:
        """The worker that had the job is gone."""


@dataclass
class _Worker:
    """A process, and the job it works on."""

    process: subprocess.Popen[bytes]
    job: SweepJob | None = None

    @property
    def inbox(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def outbox(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout


class WorkerPool:
    """At most `size` jobs at once, in processes of sessions of their own: a Ctrl-C reaches this process alone.

    A worker reads one JSON object a line (a job) and answers with one a line. When its input ends, because this process
    closed it or is gone, it stops what it does and ends. One that answers `"status": "failed"` is replaced: what the
    failed job left in it (memory, a broken device) does not reach the next.

    Args:
        command: Starts a worker.
        environments: Added to the environment of each worker; as many as there are workers.
    """

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self._command = list(command)
        self._environments = environments
        self._slots: list[_Worker | None] = [None] * len(environments)
        self._selector = selectors.DefaultSelector()

    def run(self, source: Source, tick: Callable[[], None], seconds: float = 0.5) -> None:
        """Do the jobs of a source, calling `tick` about every `seconds`.

        However it ends, with an exception out of a signal handler too, no worker is left.
        """
        try:
            while True:
                self._fill(source)
                if not source.is_open() and not any(worker and worker.job for worker in self._slots):
                    return
                for key, _ in self._selector.select(seconds):
                    self._hear(key.data, source)
                tick()
        finally:
            self.stop()

    def stop(self) -> None:
        """End all workers: what they work on stays resumable."""
        workers = [worker for worker in self._slots if worker is not None]
        for worker in workers:
            self._close_inbox(worker)
        until = time.monotonic() + GRACE
        try:
            for worker in workers:
                worker.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:  # too slow, or the user is impatient: nothing is left behind
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
                worker.outbox.close()
        self._slots = [None] * len(self._slots)
        self._selector.close()

    def _fill(self, source: Source) -> None:
        for slot, worker in enumerate(self._slots):
            if worker is not None and worker.job is not None:
                continue
            job = source.next()
            if job is None:
                return
            worker = worker or self._start(slot)
            worker.job = job
            try:
                worker.inbox.write(json.dumps(source.request(job)).encode() + b"\n")
                worker.inbox.flush()
            except BrokenPipeError:  # it died while idle; its end is noticed when its output is read
                continue

    def _start(self, slot: int) -> _Worker:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self._environments[slot]},
            start_new_session=True,
        )
        worker = _Worker(process)
        self._slots[slot] = worker
        self._selector.register(worker.outbox, selectors.EVENT_READ, slot)
        return worker

    def _hear(self, slot: int, source: Source) -> None:
        worker = self._slots[slot]
        assert worker is not None
        line = worker.outbox.readline()
        job, worker.job = worker.job, None
        answer = json.loads(line) if line.endswith(b"\n") else None
        if answer is None or answer["status"] == "failed":
            self._dismiss(slot, worker)
        if job is not None and answer is not None:
            source.ended(job, answer)
        elif job is not None:
            source.lost(job, describe_exit(worker.process.returncode))

    def _dismiss(self, slot: int, worker: _Worker) -> None:
        self._selector.unregister(worker.outbox)
        self._slots[slot] = None
        self._close_inbox(worker)
        try:
            worker.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.outbox.close()

    @staticmethod
    def _close_inbox(worker: _Worker) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is gone already
            worker.inbox.close()


def describe_exit(code: int) -> str:
    """Why a process that should have gone on is gone."""
    if code >= 0:
        return f"The process of the job ended with exit code {code}."
    hint = " (often: out of memory)" if code == -signal.SIGKILL else ""
    return f"The process of the job was ended by {signal.Signals(-code).name}{hint}."


def worker_environments(size: int, threads: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """Environment of each worker: its share of the threads, and with several CUDA devices one of them in turn.

    One worker alone gets nothing: it runs as a job outside a sweep does.
    """
    if size == 1:
        return [{}]
    shared = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    if len(devices) < 2:
        return [dict(shared) for _ in range(size)]
    return [{**shared, "CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} for slot in range(size)]
