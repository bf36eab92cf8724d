"""Sweeps from the command line: continued by the same command, whatever happened to them."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mtl.sweeps.manifest import SweepDirectory
from mtl.sweeps.state import Attempts, State, read_status
from mtl.tracking import read_events
from tests.problems import REPOSITORY
from tests.wandb_files import WandbFile

QUICK = [
    "dataset.train_size=64",
    "dataset.val_size=16",
    "dataset.test_size=16",
    "dataset.batch_size=32",
    "trainer.max_epochs=3",
    "trainer.num_threads=1",
]
TRAIN = ["scripts/train.py"]
PLANTED = ["-m", "tests.integration._planted_train"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PATIENCE = 800
"""Seconds for what takes a few on a machine that has nothing else to do."""
started = []


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    while started:
        process = started.pop()
        process.kill()  # its workers notice
        process.communicate()


def start(program, arguments, **more):
    environment = {**os.environ, "WANDB_API_KEY": "", "PYTHONPATH": str(REPOSITORY)} | more
    command = [sys.executable, *program, *arguments]
    pipe = subprocess.PIPE
    started.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=pipe, stderr=pipe, text=True))
    return started[-1]


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    for text in (out, err):
        assert "\x1b" not in text
        assert "\r" not in text
    return process.returncode, out, err


def train(*arguments, program=TRAIN, **more):
    return finish(start(program, ["-m", *arguments], **more))


def sweep_in(path):
    [manifest] = path.rglob("manifest.jsonl")
    return SweepDirectory(manifest.parent)


def states(sweep):
    return {job.directory: read_status(sweep.job(job)).state for job in sweep.read().jobs}


def wait_until(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_a_sweep_equals_single_runs_and_is_done_once(tmp_path):
    where = f"paths.output_dir={tmp_path / 'sweep'}"
    code, out, _ = train(where, "strategy=uniform,pcgrad", "seed=1,0", *QUICK, *JOBLIB)
    assert code == 0
    assert "4 jobs: 4 completed" in out
    sweep = sweep_in(tmp_path / "sweep")
    assert sorted(states(sweep)) == [
        *("0_strategy=uniform_seed=1", "1_strategy=uniform_seed=0"),
        *("2_strategy=pcgrad_seed=1", "3_strategy=pcgrad_seed=0"),
    ]
    before = {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*") if path.name != ".mtl-sweep"}
    code, out, _ = train("seed=0,1", *QUICK, "strategy=pcgrad,uniform", where)  # another order, another launcher
    assert code == 0
    assert "to do" not in out
    assert {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*") if path.name != ".mtl-sweep"} == before
    alone = tmp_path / "alone"
    arguments = ["strategy=pcgrad", "seed=0", *QUICK, f"hydra.run.dir={alone}"]
    assert finish(start(TRAIN, arguments))[0] == 0
    for name in ("checkpoints/last.pt",):
        assert (alone / name).read_bytes() == (sweep.path / "3_strategy=pcgrad_seed=0" / name).read_bytes()


def test_a_sweep_is_frozen_when_it_starts(tmp_path):
    """Jobs that start after configs/ changed run what was composed before: here, what the manifest says."""
    where = [f"paths.output_dir={tmp_path}", "seed=0,1", *QUICK]
    process = start(TRAIN, ["-m", *where])
    wait_until(lambda: list(tmp_path.rglob("manifest.jsonl")))
    process.kill()
    process.communicate()
    sweep = sweep_in(tmp_path)
    manifest = sweep.read()
    for job in manifest.jobs:
        job.config["optimizer"]["lr"] = 0.125  # as if configs/optimizer/adam.yaml had said so when it started
    sweep.write(type(manifest)(**{**vars(manifest), "files": "another"}))
    code, out, _ = train(*where)
    assert "have changed since this sweep started" in out
    assert code in (0, 1)  # a job that the kill found begun holds the other configuration, and says so
    found = [yaml.safe_load((sweep.job(job) / "config.yaml").read_text())["optimizer"]["lr"] for job in manifest.jobs]
    assert found[-1] == 0.125


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_is_clean_and_continues(tmp_path, number):
    arguments = ["-m", f"paths.output_dir={tmp_path}", "seed=0,1,2", *QUICK, "trainer.max_epochs=400", *JOBLIB]
    process = start(TRAIN, arguments)
    wait_until(lambda: len(list(tmp_path.rglob("last.pt"))) == 2)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 128 + number
    assert err == ""
    assert "Stopped" in out
    assert "3 jobs: 2 interrupted, 1 waiting" in out
    assert "The same command goes on with 3: python scripts/train.py -m" in out
    sweep = sweep_in(tmp_path)
    assert sorted(states(sweep).values()) == [State.INTERRUPTED, State.INTERRUPTED, State.WAITING]
    for path in tmp_path.rglob("output.log"):
        assert "Traceback" not in path.read_text()


def test_two_launchers_do_not_share_a_sweep(tmp_path):
    arguments = [f"paths.output_dir={tmp_path}", "seed=0,1", *QUICK, "trainer.max_epochs=400"]
    first = start(TRAIN, ["-m", *arguments])
    wait_until(lambda: list(tmp_path.rglob("last.pt")))
    code, _, err = train(*arguments)
    assert code == 1
    assert "Another process runs the sweep" in err
    first.terminate()
    assert finish(first)[0] == 143


def test_submitit_runs_the_frozen_jobs(tmp_path):
    where = [f"paths.output_dir={tmp_path}", "strategy=uniform,mgda", *QUICK]
    submitit = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    process = start(TRAIN, ["-m", *where, *submitit])
    wait_until(lambda: list(tmp_path.rglob("attempts.jsonl")))
    sweep = sweep_in(tmp_path)
    victim = next(iter(tmp_path.rglob("attempts.jsonl"))).parent
    os.kill(Attempts(victim).read()[0]["pid"], signal.SIGKILL)  # as the kernel does when memory is short
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    found = states(sweep)
    assert found.pop(victim.name) is State.FAILED
    assert set(found.values()) == {State.COMPLETED}
    code, out, err = train(*where, *submitit)
    assert (code, err) == (0, "")
    assert "2 jobs: 2 completed" in out
    for job in sweep.read().jobs:
        path = sweep.job(job)
        summary = json.loads((path / "summary.json").read_text())
        assert summary["strategy"] == job.config["names"]["strategy"]
        assert summary["config_hash"] == job.config_hash
    assert train(*where)[0] == 0


def test_sixty_jobs_six_crash_three_diverge_and_the_launcher_is_killed_twice(tmp_path):
    from tests.integration import _planted_worker as planted

    log = tmp_path / "completed"
    log.touch()
    arguments = [
        *("strategy=uniform,mgda,pcgrad", "seed=range(0,10)", "tracking=jsonl,wandb", "tracking.mode=offline"),
        *(*QUICK, *JOBLIB, f"paths.output_dir={tmp_path}"),
    ]
    more = {"PLANTED_LOG": str(log)}

    def kill_after(count):
        process = start(PLANTED, ["-m", *arguments], **more)
        wait_until(lambda: len(log.read_text().splitlines()) >= count)
        process.kill()
        process.communicate()

    kill_after(12)
    kill_after(30)
    code, out, _ = finish(start(PLANTED, ["-m", *arguments], **more))
    assert code == 1
    sweep = sweep_in(tmp_path)
    found, jobs = states(sweep), sweep.read().jobs
    assert len(jobs) == 60
    expected = {}
    for job in jobs:
        about = (job.config["names"]["strategy"], job.seed, job.config["tracking"]["wandb"])
        state = State.FAILED if about in planted.CRASHES else State.COMPLETED
        expected[job.directory] = State.DIVERGED if about in planted.DIVERGING else state
    assert found == expected
    assert "60 jobs: 51 completed, 3 diverged, 6 failed" in out
    for job in jobs:
        if found[job.directory] is State.FAILED:
            assert f"{job.directory}: " in out
            assert f"python scripts/train.py resume={sweep.job(job)}" in out
    completed = log.read_text().splitlines()
    assert len(set(completed)) == len(completed) == 54, "a job came to its end twice"
    check_runs(sweep, jobs)
    assert train(*arguments, program=PLANTED, **more)[0] == 1  # tries again what failed once so far
    assert {read_status(sweep.job(job)).failures for job in jobs if found[job.directory] is State.FAILED} == {2}
    code, out, _ = train(*arguments, program=PLANTED, **more)
    assert code == 1
    assert "to do" not in out
    assert "6 failed more than once" in out
    assert states(sweep) == found
    assert log.read_text().splitlines() == completed
    shown = subprocess.run(
        [sys.executable, "scripts/sweep.py", f"dir={sweep.path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sum(line.startswith(tuple(found)) for line in shown.stdout.splitlines()) == 60


def check_runs(sweep, jobs):
    """Every run directory and every offline W&B run holds the data of its job and of no other."""
    owners, weights = {}, {}
    for job in jobs:
        path = sweep.job(job)
        assert yaml.safe_load((path / "config.yaml").read_text()) == job.config
        if (path / "summary.json").is_file():
            summary = json.loads((path / "summary.json").read_text())
            assert (summary["seed"], summary["config_hash"]) == (job.seed, job.config_hash)
            if summary["status"] == "completed":
                key = (job.config["names"]["strategy"], job.seed)
                weights.setdefault(key, set()).add((path / "checkpoints/last.pt").read_bytes())
        evaluations = {
            event["step"]: event["losses"]["val"]
            for event in read_events(path / "metrics.jsonl")
            if event["event"] == "evaluation"
        }
        sessions = [file for file in (path / "wandb").glob("offline-run-*/*.wandb") if file.stat().st_size > 7]
        if not job.config["tracking"]["wandb"]:
            assert not (path / "wandb").exists()
        for session in map(WandbFile, sessions):  # a killed one may hold nothing
            for run_id in session.ids:
                assert owners.setdefault(run_id, job) == job
                assert run_id == (path / "wandb_id").read_text().strip()
            if session.ids:
                assert session.names == {f"seed={job.seed}"}
                for key in ("seed", "strategy", "tracking", "optimizer"):
                    assert session.config[key] == job.config[key]
            for row in session.history:
                found = {task: row.get(f"eval/losses/val/{task}") for task in ("left", "right")}
                assert found == evaluations[row["_step"]] or set(found.values()) == {None}
    assert len(owners) >= 27
    assert len(weights) >= 25
    assert all(len(found) == 1 for found in weights.values()), "the mirror, a kill or a neighbour changed the weights"


def test_on_a_terminal_there_is_a_table_without_colours_if_so_wished(tmp_path):
    arguments = [f"paths.output_dir={tmp_path}", "seed=0,1", *QUICK, "trainer.max_epochs=400", *JOBLIB]
    master, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "150"}
    command = [sys.executable, *TRAIN, "-m", *arguments]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""

    def read_until(word):
        nonlocal seen
        while word not in seen:
            ready, _, _ = select.select([master], [], [], PATIENCE)
            assert ready, seen
            seen += os.read(master, 65536)

    read_until(b"running")
    read_until(b"accuracy")
    process.send_signal(signal.SIGINT)
    read_until(b"All jobs: python scripts/sweep.py")
    assert process.wait(PATIENCE) == 130
    os.close(master)
    text = seen.decode()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text), "a colour"
    assert "0_seed=0" in text
    assert "Traceback" not in text
    assert "2 jobs: 2 interrupted" in text


def test_a_search_is_continued_by_the_same_command(tmp_path):
    arguments = ["optimizer.lr=tag(log, interval(1e-4, 1e-1))", *QUICK, "seeds=0,1", f"out={tmp_path / 'search'}"]
    search = ["scripts/search.py"]
    process = start(search, [*arguments, "trials=2"])
    wait_until(lambda: list(tmp_path.rglob("last.pt")))
    process.kill()
    process.communicate()
    code, out, _ = finish(start(search, [*arguments, "trials=3", "jobs=2"]))
    assert code == 0
    assert "6 jobs: 6 completed" in out
    assert out.count("  score ") == 3
    scores = [json.loads(path.read_text())["selection"]["validation_score"] for path in tmp_path.rglob("summary.json")]
    assert len(scores) == 6
