"""Law 1, and the same for whole runs: a continued run has the bits of an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from mtl.config import resume_run, run_overrides
from mtl.config.build import build_spec
from mtl.config.entry import read_config
from mtl.errors import RunDirectoryError
from mtl.training import evaluate_run
from mtl.training.checkpoint import save_checkpoint
from mtl.training.run_directory import RunDirectory
from tests.integration._resume_worker import start, steps
from tests.problems import REPOSITORY, VARIANTS, ghosts_everywhere


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Every strategy at every level: nine steps straight; five steps, saved, continued in one fresh process."""
    directory = tmp_path_factory.mktemp("resume")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        ghosts_everywhere(patch)
        for name in VARIANTS:
            objective, strategy = start(name)
            save_checkpoint(directory / f"{name}.half", steps(objective, strategy, 0, 5))
            objective, strategy = start(name)
            save_checkpoint(directory / f"{name}.straight", steps(objective, strategy, 0, 9))
    command = [sys.executable, "-m", "tests.integration._resume_worker", str(directory)]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=200)
    return directory


@pytest.mark.parametrize("name", VARIANTS)
def test_law_01_saved_and_resumed_in_a_fresh_process(resumed, name):
    straight = (resumed / f"{name}.straight").read_bytes()
    assert straight == (resumed / f"{name}.resumed").read_bytes()
    assert straight != (resumed / f"{name}.half").read_bytes()


RUN = [
    "tracking.progress=none",
    "dataset.train_size=512",
    "dataset.val_size=128",
    "dataset.test_size=128",
    "dataset.batch_size=64",
    "trainer.max_epochs=4",
    "trainer.checkpoint_every_steps=3",
    "trainer.num_threads=1",
    "tracking.log_every_steps=1",
]
STEPWISE = ["scheduler=cosine", "scheduler.interval=step", "scheduler.factory.T_max=32"]
STOCHASTIC = ["backbone=lenet_released", "heads=mlp_released", "strategy=selective_groups", "scheduler=cosine"]


DIAGNOSTICS = ["tracking.diagnostics.every=4", "tracking.diagnostics.path=true"]
KINDS = ("step", "diagnostics", "evaluation")


def evaluate(path):
    return evaluate_run(build_spec(*read_config(RunDirectory(path))), path)


def record(path, *kinds):
    """Events without their times."""
    events = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [
        {
            key: value
            for key, value in event.items()
            if key not in ("seconds", "train_seconds", "train_cpu_seconds", "cost", "description")
        }
        for event in events
        if event["event"] in kinds
    ]


def assert_same_run(first, second):
    assert (first / "checkpoints/last.pt").read_bytes() == (second / "checkpoints/last.pt").read_bytes()
    assert record(first, *KINDS) == record(second, *KINDS)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (first, second)]
    for key in ("status", "metrics", "steps", "epochs", "config_hash", "selection"):
        assert summaries[0][key] == summaries[1][key]
    counts = [{k: v for k, v in s["cost"].items() if k not in TIMES} for s in summaries]
    assert counts[0] == counts[1]


TIMES = ("step_seconds", "train_seconds", "train_cpu_seconds", "peak_memory_bytes")


class Stop(Exception):
    pass


def test_a_run_stopped_mid_epoch_continues_to_the_same_bits(tmp_path, monkeypatch):
    """With dropout, shuffling, a drawing strategy, a scheduler, diagnostics: everything that has a state."""
    overrides = [*RUN, *STOCHASTIC, *DIAGNOSTICS, "strategy.grouping.warmup_iterations=3"]
    run_overrides(overrides, tmp_path / "straight")
    from mtl.strategies import SequentialStrategy

    original = SequentialStrategy.step
    calls = {"count": 0}

    def stopping(self, batch):
        calls["count"] += 1
        if calls["count"] == 14:
            raise Stop
        return original(self, batch)

    monkeypatch.setattr(SequentialStrategy, "step", stopping)
    with pytest.raises(Stop):
        run_overrides(overrides, tmp_path / "stopped")
    assert json.loads((tmp_path / "stopped/summary.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    resume_run(tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_resuming_a_completed_run_changes_nothing(tmp_path):
    run_overrides([*RUN, "trainer.max_epochs=1"], tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    resume_run(tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_random_moments(tmp_path):
    """SIGKILL at 20 random moments of a run: each continued run ends with the bytes of the uninterrupted one."""
    overrides = [*RUN, *STOCHASTIC, "trainer.max_epochs=12", "strategy.grouping.warmup_iterations=3"]
    script = str(REPOSITORY / "scripts/train.py")

    def launch(arguments):
        command = [sys.executable, script, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)

    straight = tmp_path / "straight"
    process = launch([*overrides, f"hydra.run.dir={straight}"])
    first_checkpoint, started = None, time.monotonic()
    while process.poll() is None:
        if first_checkpoint is None and (straight / "checkpoints/last.pt").exists():
            first_checkpoint = time.monotonic() - started
        time.sleep(0.01)
    assert process.returncode == 0
    whole = time.monotonic() - started
    draw = random.Random(7)
    killed = 0
    for number in range(20):
        path = tmp_path / f"killed{number}"
        process = launch([*overrides, f"hydra.run.dir={path}"])
        started = time.monotonic()
        while not (path / "checkpoints/last.pt").exists():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.9 * (whole - first_checkpoint)))
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        resume_run(path)
        assert_same_run(straight, path)
    assert killed >= 15, "most runs ended before they were killed: the test shows nothing"


def test_a_run_stopped_before_its_first_checkpoint_starts_again(tmp_path, monkeypatch):
    run_overrides(RUN, tmp_path / "straight")
    from mtl.training.trainer import Trainer

    def stop(self):
        raise Stop

    monkeypatch.setattr(Trainer, "save", stop)
    with pytest.raises(Stop):
        run_overrides(RUN, tmp_path / "stopped")
    monkeypatch.undo()
    assert not (tmp_path / "stopped/checkpoints/last.pt").exists()
    resume_run(tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("save", [1, 3], ids=["before the first checkpoint", "later"])
def test_a_run_keeps_the_number_of_threads_that_it_began_with(tmp_path, monkeypatch, save):
    """More threads add up in another order: a sweep that goes on with other parallel jobs would get other bits."""
    from mtl.training.trainer import Trainer

    original, calls = Trainer.save, []

    def stopping(self):
        calls.append(1)
        if len(calls) == save:
            raise Stop
        original(self)

    options = [option for option in RUN if not option.startswith("trainer.num_threads")]
    monkeypatch.setattr(Trainer, "save", stopping)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(Stop):
            run_overrides(options, tmp_path)
        monkeypatch.undo()
        torch.set_num_threads(1)
        assert resume_run(tmp_path)["num_threads"] == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("options", [["trainer.checkpoint_every_steps=4"], ["trainer.max_steps=13"], STEPWISE])
def test_other_places_to_stop(tmp_path, monkeypatch, options):
    """Checkpoints on the end of an epoch, a run that ends within one, a scheduler that advances every step."""
    overrides = ["tracking.progress=none", *RUN[1:], *options]
    run_overrides(overrides, tmp_path / "straight")
    from mtl.strategies import LossWeightingStrategy

    original = LossWeightingStrategy.step
    calls = {"count": 0}

    def stopping(self, batch):
        calls["count"] += 1
        if calls["count"] == 12:
            raise Stop
        return original(self, batch)

    monkeypatch.setattr(LossWeightingStrategy, "step", stopping)
    with pytest.raises(Stop):
        run_overrides(overrides, tmp_path / "stopped")
    monkeypatch.undo()
    resume_run(tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("strategy", ["auto_lambda", "sdmgrad"])
def test_held_out_batches_and_split_batches_continue(tmp_path, monkeypatch, strategy):
    """Mid-epoch of both splits: the position in the validation split is part of the state; dropout masks too."""
    overrides = [*RUN, "trainer.max_epochs=2", "backbone=lenet_released", "heads=mlp_released", f"strategy={strategy}"]
    run_overrides(overrides, tmp_path / "straight")
    from mtl.strategies import StepReport

    original, calls = StepReport.__init__, {"count": 0}

    def stopping(self, *arguments, **named):
        calls["count"] += 1
        if calls["count"] == 12:
            raise Stop
        original(self, *arguments, **named)

    monkeypatch.setattr(StepReport, "__init__", stopping)
    with pytest.raises(Stop):
        run_overrides(overrides, tmp_path / "stopped")
    monkeypatch.undo()
    resume_run(tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    summary = json.loads((tmp_path / "straight/summary.json").read_text())
    assert summary["cost"]["samples"] == 2 * 512 + (16 * 64 if strategy == "auto_lambda" else 0)


def test_one_process_at_a_time(tmp_path):
    run_overrides([*RUN, "trainer.max_epochs=1"], tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(RunDirectoryError, match="Another process"):
        resume_run(tmp_path / "run")


def test_other_data_are_refused(tmp_path, monkeypatch):
    run_overrides([*RUN, "trainer.max_epochs=1"], tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    from mtl.datasets import MultiDigits

    load = MultiDigits.load

    def other(self):
        splits = load(self)
        splits["train"].inputs[0, 0, 0, 0] += 1
        return splits

    monkeypatch.setattr(MultiDigits, "load", other)
    with pytest.raises(RunDirectoryError, match="The data differ"):
        resume_run(tmp_path / "run")


def test_the_best_checkpoint_is_the_one_reported(tmp_path):
    summary = run_overrides([*RUN, "trainer.selection=best_val", "optimizer.lr=0.02"], tmp_path / "run")
    result = evaluate(tmp_path / "run")
    assert result["checkpoint"] == "best.pt"
    assert result["metrics"] == summary["metrics"]
