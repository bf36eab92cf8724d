"""States are what the run directories say."""

import json
import multiprocessing

import pytest

from mtl.errors import BusyRunError, RunDirectoryError
from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.queue import JobQueue, open_jobs, record_loss
from mtl.sweeps.state import Attempts, JobStatus, State, read_status
from mtl.training.run_directory import RunDirectory


def begin(path):
    path.mkdir(exist_ok=True)
    Attempts(path).started()
    RunDirectory(path).reserve("a: 1\n")
    return RunDirectory(path)


def end(path, status, message=None):
    RunDirectory(path).write_summary({"status": status, "message": message})


def test_the_life_of_a_job(tmp_path):
    path = tmp_path / "job"
    assert read_status(path) == JobStatus(State.WAITING)
    directory = begin(path)
    assert read_status(path) == JobStatus(State.INTERRUPTED)  # of a process that left nothing but that it started
    with directory.locked():
        assert read_status(path) == JobStatus(State.RUNNING)
    Attempts(path).failed("first")
    assert read_status(path) == JobStatus(State.FAILED, 1, "first")
    end(path, "failed", "first")
    assert read_status(path) == JobStatus(State.FAILED, 1, "first")
    Attempts(path).started()
    assert read_status(path) == JobStatus(State.INTERRUPTED, 1)  # though the summary of the attempt before is there
    with directory.locked():
        assert read_status(path) == JobStatus(State.RUNNING, 1)
    Attempts(path).failed("second")
    assert read_status(path) == JobStatus(State.FAILED, 2, "second")
    end(path, "completed")
    assert read_status(path) == JobStatus(State.COMPLETED, 2)
    end(path, "diverged", "after 3 steps")
    assert read_status(path) == JobStatus(State.DIVERGED, 2, "after 3 steps")


def test_a_run_that_failed_outside_a_sweep_counts(tmp_path):
    RunDirectory(tmp_path).claim("a: 1\n")
    end(tmp_path, "failed", "why")
    assert read_status(tmp_path) == JobStatus(State.FAILED, 1, "why")


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    attempts = Attempts(tmp_path)
    attempts.started()
    with attempts.path.open("a") as file:
        file.write('{"event": "fai')
    assert [event["event"] for event in attempts.read()] == ["started"]


def test_a_reserved_directory_is_of_one_configuration(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.reserve("a: 1\n")
    directory.reserve("a: 1\n")
    with pytest.raises(RunDirectoryError, match="another configuration"):
        directory.reserve("a: 2\n")


def test_a_reservation_cut_off_by_a_kill_is_made_good(tmp_path):
    """Killed between the configuration and the marker, in either order of what is there."""
    directory = RunDirectory(tmp_path / "run")
    directory.reserve("a: 1\n")
    for path in (directory.config, directory.path / ".mtl-run"):
        path.unlink()
        directory.reserve("a: 1\n")
        directory.check_resumable()
        assert directory.config.read_text() == "a: 1\n"


def test_looking_does_not_disturb_a_start(tmp_path):
    """While many look whether a run is locked, the one that locks it always gets it."""
    directory = RunDirectory(tmp_path / "run")
    directory.reserve("a: 1\n")
    context = multiprocessing.get_context("fork")
    lookers = [context.Process(target=_look, args=(directory.path,), daemon=True) for _ in range(3)]
    for process in lookers:
        process.start()
    try:
        for _ in range(100):
            with directory.locked():
                pass
    finally:
        for process in lookers:
            process.kill()
            process.join()
    with directory.locked(), pytest.raises(BusyRunError):
        directory.locked().__enter__()


def _look(path):
    while True:
        RunDirectory(path).is_locked()


@pytest.fixture
def sweep(tmp_path):
    """Six jobs: waiting, interrupted, failed once, failed twice, diverged, completed."""
    directory = SweepDirectory(tmp_path)
    jobs = [SweepJob(n, f"{n}", (), "", n, {}) for n in range(6)]
    for job in jobs[1:]:
        begin(directory.job(job))
    Attempts(tmp_path / "2").failed("once")
    for message in ("once", "twice"):
        Attempts(tmp_path / "3").failed(message)
    end(tmp_path / "4", "diverged")
    end(tmp_path / "5", "completed")
    return directory, jobs


def test_what_a_call_has_to_do(sweep):
    directory, jobs = sweep
    assert [job.number for job in open_jobs(directory, jobs, retry=False)] == [1, 0, 2]
    assert [job.number for job in open_jobs(directory, jobs, retry=True)] == [1, 0, 2, 3]


def test_a_queue_waits_for_jobs_of_others_and_drops_what_they_finish(sweep):
    directory, jobs = sweep
    queue = JobQueue(directory, jobs[:2], threads=1)
    with RunDirectory(directory.job(jobs[1])).locked():
        assert queue.next() == jobs[0]
        assert queue.next() is None
        assert queue.is_open()
        end(directory.job(jobs[1]), "completed")
    assert queue.next() is None
    assert not queue.is_open()
    queue.ended(jobs[0], {"status": "running"})  # another process was quicker
    assert queue.is_open()
    request = json.loads(json.dumps(queue.request(jobs[0])))
    assert request["path"] == str(directory.job(jobs[0]))


def test_a_lost_process_is_a_failed_attempt_unless_the_result_is_there(sweep):
    directory, jobs = sweep
    record_loss(directory, jobs[0], "killed")
    record_loss(directory, jobs[5], "killed")
    assert read_status(directory.job(jobs[0])) == JobStatus(State.FAILED, 1, "killed")
    assert read_status(directory.job(jobs[5])) == JobStatus(State.COMPLETED)
