"""The W&B mirror, checked on the files that offline runs leave: the right run gets the right data, all of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtl.config import run_overrides
from mtl.tracking import read_events
from mtl.training.checkpoint import load_checkpoint
from mtl.training.trainer import Trainer
from tests.problems import REPOSITORY
from tests.wandb_files import read_run

QUICK = [
    "dataset.train_size=64",
    "dataset.val_size=16",
    "dataset.test_size=16",
    "dataset.batch_size=16",
    "trainer.max_epochs=2",
    "trainer.num_threads=1",
    "tracking=wandb",
    "tracking.mode=offline",
    "tracking.log_every_steps=1",
    "tracking.diagnostics.every=2",
    "tracking.diagnostics.path=true",
    "tracking.progress=none",
]
ENVIRONMENT = {**os.environ, "WANDB_API_KEY": "", "HYDRA_FULL_ERROR": "0", "PYTHONPATH": str(REPOSITORY)}


def scalars(event):
    """What has to be found in the history, as (name, value): written out, not by the code that is tested."""
    kind = event["event"]
    if kind == "step":
        for key in ("losses", "weights", "gradient_norms", "diagnostics"):
            for task, value in event.get(key, {}).items():
                yield f"train/{key}/{task}", value
        yield "train/lr", event["lr"]
        if "groups" in event:
            yield "train/groups", " | ".join("+".join(group) for group in event["groups"])
    elif kind == "evaluation":
        for split, tasks in event["metrics"].items():
            for task, metrics in tasks.items():
                for metric, value in metrics.items():
                    yield f"eval/metrics/{split}/{task}/{metric}", value
        for split, losses in event["losses"].items():
            for task, value in losses.items():
                yield f"eval/losses/{split}/{task}", value
        yield "epoch", event["epoch"]
    elif kind == "diagnostics":
        for key in ("conflict_rate", "condition_number", "angle_to_uniform", "update_norm", "path_length"):
            yield f"diagnostics/{key}", event[key]
        for task, value in event["gradient_norms"].items():
            yield f"diagnostics/gradient_norms/{task}", value
        yield "diagnostics/cosines/left/right", event["cosines"][0][1]
        for layer, shares in event.get("update_share", {}).items():
            for task, value in shares.items():
                yield f"diagnostics/update_share/{layer}/{task}", value


def assert_mirrors(run_dir: Path, files):
    """All values of the record, at their step; no step that it has not; the ids, the configuration and the code."""
    run_id = (run_dir / "wandb_id").read_text().strip()
    summary = json.loads((run_dir / "summary.json").read_text())
    rows = {}
    for file in files:
        assert file.ids == {run_id}
        assert file.config["seed"] == summary["seed"]
        assert file.config["names"]["strategy"] == summary["strategy"]
        assert file.config["config_hash"] == summary["config_hash"]
        assert file.config["git"].keys() == {"commit", "dirty"}
        assert file.config["strategy"] == summary["options"]["strategy"]
        assert file.metrics == {
            **{"step": "", "epoch": ""},
            **{"train/*": "step", "diagnostics/*": "step", "eval/*": "epoch"},
        }
        for row in file.history:
            if not any(name.startswith("pairs/") for name in row):
                assert row["step"] == row["_step"]
                rows.setdefault(row["_step"], {}).update(row)
    events = read_events(run_dir / "metrics.jsonl")
    for event in events:
        for name, value in scalars(event):
            if value is None:
                assert name not in rows[event["step"]]
            else:
                assert rows[event["step"]][name] == value, (name, event["step"])
    assert set(rows) == {e["step"] for e in events if e["event"] in ("step", "evaluation", "diagnostics")}


def test_a_run_is_all_there(tmp_path, capfd, monkeypatch):
    """With `mode=auto` and no key: offline, which the run says."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = [*QUICK, "tracking.mode=auto", "strategy=selective_groups", "experiment_name=trial"]
    summary = run_overrides(options, tmp_path)
    said = capfd.readouterr().err
    assert "take events" not in said
    assert "W&B: offline (no API key is set)" in said
    (file,) = read_run(tmp_path)
    assert_mirrors(tmp_path, [file])
    assert file.groups == {"trial/multidigits/lenet/selective_groups"}
    assert file.tags == {("trial", "multidigits", "lenet", "selective_groups")}
    assert file.names == {"seed=0"}
    assert file.exit_code == 0
    assert "${" not in json.dumps(file.config)
    found = file.summary
    assert found["status"] == "completed"
    values = {}
    for event in read_events(tmp_path / "metrics.jsonl"):
        if event["event"] == "evaluation":
            values.setdefault("val", []).append(event["metrics"]["val"]["left"]["accuracy"])
            values.setdefault("test", []).append(event["metrics"]["test"]["left"]["accuracy"])
    assert found["best/val/left/accuracy"] == max(values["val"])
    assert found["last/val/left/accuracy"] == values["val"][-1]
    assert found["last/test/left/accuracy"] == values["test"][-1]
    assert not any(name.startswith("best/test") for name in found)
    for task, metrics in summary["metrics"]["test"].items():
        assert found[f"selected/test/{task}/accuracy"] == metrics["accuracy"]
    assert found["cost/backbone_backwards"] == summary["cost"]["backbone_backwards"]
    last = file.history[-1]
    images = {name: value["path"] for name, value in last.items() if isinstance(value, dict) and "width" in value}
    assert set(images) == {"pairs/cosine", "pairs/conflicts", "pairs/magnitude_similarity", "pairs/affinity"}
    for path in images.values():
        assert list((tmp_path / "wandb").glob(f"*/files/{path}"))


def test_an_exception_does_not_send_the_next_job_into_the_failed_run(tmp_path, monkeypatch):
    """Three jobs in one process, the second raises: three runs, one of them failed."""
    fit, calls = Trainer.fit, []

    def failing(self):
        calls.append(1)
        if len(calls) == 2:
            self._train_epoch()
            raise RuntimeError("planted")
        fit(self)

    monkeypatch.setattr(Trainer, "fit", failing)
    monkeypatch.setenv("WANDB_API_KEY", "")
    run_overrides([*QUICK, "strategy=uniform"], tmp_path / "uniform")
    with pytest.raises(RuntimeError, match="planted"):
        run_overrides([*QUICK, "strategy=igd"], tmp_path / "igd")
    run_overrides([*QUICK, "strategy=mgda"], tmp_path / "mgda")
    runs = sorted(path.parent for path in tmp_path.rglob("summary.json"))
    assert len(runs) == 3
    seen = {}
    for run in runs:
        (file,) = read_run(run)
        assert_mirrors(run, [file])
        status = json.loads((run / "summary.json").read_text())["status"]
        assert file.summary["status"] == status
        assert (file.exit_code == 0) == (status == "completed")
        seen[next(iter(file.ids))] = status
    assert sorted(seen.values()) == ["completed", "completed", "failed"]


@pytest.mark.slow
def test_jobs_in_several_processes(tmp_path):
    """Four jobs of the joblib launcher in two processes: each logs into its own run."""
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    arguments = ["-m", *QUICK, *launcher, "strategy=uniform,mao", "seed=0,1", f"paths.output_dir={tmp_path}"]
    command = [sys.executable, str(REPOSITORY / "scripts/train.py"), *arguments]
    subprocess.run(command, check=True, timeout=250, capture_output=True, env=ENVIRONMENT)
    runs = sorted(path.parent for path in tmp_path.rglob("summary.json"))
    assert len(runs) == 4
    ids = set()
    for run in runs:
        (file,) = read_run(run)
        assert_mirrors(run, [file])
        assert file.exit_code == 0
        ids |= file.ids
    assert len(ids) == 4


@pytest.mark.slow
def test_killed_and_resumed_under_the_same_id(tmp_path):
    """Two files of one id; together they hold every step, and where they overlap, the same values."""
    options = [*QUICK, "trainer.max_epochs=12", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, str(REPOSITORY / "scripts/train.py")]
    process = subprocess.Popen([*command, *options], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    record, deadline = tmp_path / "run/metrics.jsonl", time.monotonic() + 120
    while not (record.exists() and '"event":"diagnostics","step":14,' in record.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)  # the client's own process writes every second
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = load_checkpoint(tmp_path / "run/checkpoints/last.pt")["position"]["step"]
    resume = [*command, f"resume={tmp_path / 'run'}"]
    subprocess.run(resume, check=True, timeout=250, capture_output=True, env=ENVIRONMENT)
    first, second = read_run(tmp_path / "run")
    assert first.exit_code is None
    assert second.exit_code == 0
    assert_mirrors(tmp_path / "run", [first, second])
    steps = [{row["_step"]: row for row in file.history} for file in (first, second)]
    assert max(steps[0]) >= saved
    assert min(steps[1]) == saved + 1
    for step in set(steps[0]) & set(steps[1]):
        for name in set(steps[0][step]) & set(steps[1][step]):
            if name.startswith(("train/losses", "train/weights", "eval/metrics", "diagnostics")):
                assert steps[0][step][name] == steps[1][step][name]
    values = [
        event["metrics"]["val"]["left"]["accuracy"] for event in read_events(record) if event["event"] == "evaluation"
    ]
    assert second.summary["best/val/left/accuracy"] == max(values)
