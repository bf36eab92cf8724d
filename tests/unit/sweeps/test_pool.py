"""Workers: whatever one does, the others go on and none is left."""

import os
import signal
import sys
import threading
import time

import pytest

from mtl.sweeps.manifest import SweepJob
from mtl.sweeps.pool import WorkerPool, describe_exit, worker_environments
from mtl.sweeps.stopping import Stopped, stoppable

WORKER = """
import json, os, signal, sys, time
for line in sys.stdin:
    job = json.loads(line)
    what = job["what"]
    if what == "exit": os._exit(3)
    if what == "kill": os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep": time.sleep(600)
    print(json.dumps({"status": "failed" if what == "fail" else "completed", "pid": os.getpid(),
                      "threads": os.environ.get("OMP_NUM_THREADS")}), flush=True)
"""
"""Does as it is told; like the real one it ends with its input, except in its sleep."""


class Jobs:
    """A source of what workers are told to do."""

    def __init__(self, whats):
        self.left = list(enumerate(whats))
        self.whats = list(whats)
        self.answers, self.losses = {}, {}

    def next(self):
        if not self.left:
            return None
        number, _ = self.left.pop(0)
        return SweepJob(number, str(number), (), "", 0, {})

    def is_open(self):
        return bool(self.left)

    def request(self, job):
        return {"what": self.whats[job.number]}

    def ended(self, job, answer):
        self.answers[job.number] = answer

    def lost(self, job, reason):
        self.losses[job.number] = reason


def pool(size, worker=WORKER):
    return WorkerPool([sys.executable, "-c", worker], [{"OMP_NUM_THREADS": "1"}] * size)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_no_job_harms_another():
    jobs = Jobs(["ok", "exit", "ok", "kill", "fail", *["ok"] * 5])
    pool(2).run(jobs, lambda: None, 0.05)
    assert sorted(jobs.answers) == [0, 2, 4, 5, 6, 7, 8, 9]
    assert jobs.losses == {1: describe_exit(3), 3: describe_exit(-signal.SIGKILL)}
    assert "exit code 3" in jobs.losses[1]
    assert "SIGKILL" in jobs.losses[3]
    assert {answer["threads"] for answer in jobs.answers.values()} == {"1"}
    assert all(is_gone(answer["pid"]) for answer in jobs.answers.values())


def test_a_worker_is_kept_for_the_next_job_and_replaced_after_a_failure():
    jobs = Jobs(["ok", "ok", "fail", "ok", "ok"])
    pool(1).run(jobs, lambda: None, 0.05)
    pids = [jobs.answers[number]["pid"] for number in range(5)]
    assert len(set(pids[:3])) == 1
    assert len(set(pids[3:])) == 1
    assert pids[0] != pids[4]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_workers(number, monkeypatch):
    monkeypatch.setattr("mtl.sweeps.pool.GRACE", 0.2)
    jobs, seen = Jobs(["ok", "sleep", "sleep", "ok"]), []
    workers = pool(2)

    def tick():
        if not seen and 0 in jobs.answers:
            seen.extend(slot.process.pid for slot in workers._slots if slot)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, stoppable():
        workers.run(jobs, tick, 0.05)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert len(seen) == 2
    assert all(is_gone(pid) for pid in seen)
    assert 3 not in jobs.answers


def test_an_impatient_second_signal_kills_at_once():
    """With the full grace a sleeping worker would be waited for; the second signal ends that."""
    jobs, workers = Jobs(["sleep"]), pool(1)
    seen = []

    def tick():
        if not seen:
            seen.append(workers._slots[0].process.pid)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with pytest.raises(Stopped), stoppable():
        workers.run(jobs, tick, 0.05)
    assert is_gone(seen[0])
    assert time.monotonic() - started < 9


def test_threads_are_divided_and_devices_dealt_out():
    assert worker_environments(1, 8, ["0", "1"]) == [{}]
    assert {one["OMP_NUM_THREADS"] for one in worker_environments(3, 2, [])} == {"2"}
    assert "CUDA_VISIBLE_DEVICES" not in worker_environments(2, 1, ["0"])[0]
    dealt = [one["CUDA_VISIBLE_DEVICES"] for one in worker_environments(3, 1, ["4", "6"])]
    assert dealt == ["4", "6", "4"]
