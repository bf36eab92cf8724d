"""What is shown of a sweep: the table counts every job, and a log file stays calm."""

import io
import json
import re

import pytest
from rich.console import Console

from mtl.sweeps.display import job_table, make_display
from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.record import RecordFollower, best_words
from mtl.sweeps.report import is_failure, report
from mtl.sweeps.state import Attempts, State
from mtl.training.run_directory import RunDirectory

ACCURACY = {"accuracy": {"primary": True, "higher_is_better": True}}
ERROR = {"error": {"primary": True, "higher_is_better": False}, "other": {"primary": False, "higher_is_better": True}}


def write_events(path, events):
    with RunDirectory(path).record.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def evaluation(step, value):
    return {"event": "evaluation", "step": step, "metrics": {"val": {"a": {"accuracy": value}}}}


@pytest.fixture
def sweep(tmp_path):
    directory = SweepDirectory(tmp_path)
    jobs = [SweepJob(n, f"{n}_seed={n}", (f"seed={n}",), "", n, {}) for n in range(6)]
    for job in jobs[:4]:
        path = directory.job(job)
        path.mkdir()
        Attempts(path).started()
        RunDirectory(path).reserve("a: 1\n")
    write_events(
        directory.job(jobs[0]),
        [{"event": "start", "step": 0, "total_steps": 20, "tasks": {"a": ACCURACY}}, *map(evaluation, (5, 10), (3, 2))],
    )
    Attempts(directory.job(jobs[1])).failed("RuntimeError: why\nmore")
    RunDirectory(directory.job(jobs[2])).write_summary({"status": "diverged", "message": "after 3 steps"})
    RunDirectory(directory.job(jobs[3])).write_summary({"status": "completed", "message": None})
    return directory, jobs


def printed(table, width=200):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_progress_follows_the_record_and_its_cuts(sweep):
    directory, jobs = sweep
    path = directory.job(jobs[0])
    follower = RecordFollower(path)
    progress = follower.read()
    assert (progress.step, progress.total_steps, progress.best) == (10, 20, "accuracy 3")
    assert progress.seconds_left is not None
    with RunDirectory(path).record.open("a") as file:
        file.write('{"event": "step", "st')  # half a line
    assert follower.read().step == 10
    with RunDirectory(path).record.open("a") as file:
        file.write('ep": 12}\n')
    assert follower.read().step == 12
    lines = RunDirectory(path).record.read_text().splitlines(keepends=True)
    part = RunDirectory(path).record.with_suffix(".part")
    part.write_text("".join(lines[:2]))
    part.replace(RunDirectory(path).record)  # as a resumed run does
    assert follower.read().step == 5
    assert RecordFollower(path.with_name("none")).read().total_steps == 0


@pytest.mark.parametrize("extra", ["", "1", "12", "123456", '1"}'])
def test_a_record_that_is_begun_anew_in_its_place_is_read_from_its_start(tmp_path, extra):
    """It is longer by the next look, so that neither its size nor its inode tells."""
    path = tmp_path / "job"
    path.mkdir()
    follower = RecordFollower(path)
    write_events(path, [{"event": "start", "step": 0, "total_steps": 20, "tasks": {"a": ACCURACY}}, evaluation(15, 9)])
    assert (follower.read().step, follower.read().best) == (15, "accuracy 9")
    RunDirectory(path).record.write_text("")
    start = {"event": "start", "step": 0, "total_steps": 30, "note": extra, "tasks": {"a": ACCURACY}}
    write_events(path, [start, evaluation(2, 1), evaluation(3, 4), evaluation(4, 3)])
    progress = follower.read()
    assert (progress.step, progress.total_steps, progress.best) == (4, 30, "accuracy 4")


def test_the_best_is_a_validation_score_signed_so_that_higher_is_better():
    metrics = {"val": {"a": {"accuracy": 3.0}, "b": {"error": 1.0, "other": 9.0}}, "test": {"a": {"accuracy": 99.0}}}
    assert best_words(metrics, {"a": ACCURACY}) == (3.0, "accuracy 3")
    assert best_words(metrics, {"b": ERROR}) == (-1.0, "error 1")
    assert best_words(metrics, {"a": ACCURACY, "b": ERROR}) == (1.0, "score 1")
    assert best_words({"test": metrics["test"]}, {"a": ACCURACY}) == (None, "")
    assert best_words({"val": {"a": {"accuracy": None}}}, {"a": ACCURACY}) == (None, "")


@pytest.mark.parametrize("most", [None, 3, 1, -5])
def test_the_table_counts_every_job(sweep, most):
    monitor = Monitor(*sweep)
    text = printed(job_table(monitor, most))
    assert "6 jobs: 1 completed, 1 diverged, 1 failed, 1 interrupted, 2 waiting" in text
    rows = len(re.findall(r"^\d_seed", text, re.MULTILINE))
    hidden = re.search(r"\((\d+) not shown\)", text)
    assert rows + (int(hidden[1]) if hidden else 0) == 6
    if most == 3:
        assert "waiting  " not in text
        assert "0_seed=0  interrupted  ######...... 10/20" in text


def test_a_log_file_gets_a_line_an_event(sweep, capsys):
    directory, jobs = sweep
    monitor = Monitor(directory, jobs)
    display = make_display("auto", monitor)
    with RunDirectory(directory.job(jobs[0])).locked():
        display.update(monitor.refresh())
        display.update(monitor.refresh())
    RunDirectory(directory.job(jobs[0])).write_summary({"status": "completed", "message": None})
    display.update(monitor.refresh())
    display.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "[2/6 done] 0_seed=0  continued from step 10",
        "[3/6 done] 0_seed=0  completed, best accuracy 3",
    ]


def test_silence_is_kept(sweep, capsys):
    display = make_display("none", Monitor(*sweep))
    display.update(sweep[1])
    assert capsys.readouterr().out == ""


def test_the_last_lines_say_how_to_go_on(sweep):
    directory, jobs = sweep
    monitor = Monitor(directory, jobs)
    text = report(monitor, "COMMAND")
    path = directory.job(jobs[1])
    assert f"failed: 1_seed=1: RuntimeError: why\n    directory: {path}\n" in text
    assert f"python scripts/train.py resume={path}\n" in text
    assert "diverged: 2_seed=2: after 3 steps\n" in text
    assert "The same command goes on with 3 and tries 1 failed once more: COMMAND\n" in text
    assert is_failure(monitor)
    Attempts(path).failed("again")
    monitor.refresh()
    text = report(monitor, "COMMAND")
    assert "failed (2 times): 1_seed=1: again" in text
    assert "1 failed more than once; `retry=true` tries them again: COMMAND retry=true" in text
    for job in (jobs[0], jobs[1], jobs[4], jobs[5]):
        directory.job(job).mkdir(exist_ok=True)
        RunDirectory(directory.job(job)).write_summary({"status": "completed", "message": None})
    monitor.refresh()
    assert not is_failure(monitor)
    assert not monitor.with_state(State.FAILED)
    assert "same command" not in report(monitor, "COMMAND")
