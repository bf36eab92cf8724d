"""Methods that stand between backbone and heads, or measure while they train, through whole runs."""

import runpy
import subprocess
import sys

import pytest
import torch

from mtl.config import resume_run, run_overrides
from mtl.config.build import build_spec
from mtl.config.entry import read_config
from mtl.errors import ConfigError, RunDirectoryError
from mtl.results.affinity import read_affinity
from mtl.results.runs import read_run
from mtl.training import evaluate_run
from mtl.training.run_directory import RunDirectory
from tests.problems import REPOSITORY

RUN = [
    "tracking.progress=none",
    "tracking.log_every_steps=1",
    "dataset.train_size=256",
    "dataset.val_size=64",
    "dataset.test_size=64",
    "dataset.batch_size=64",
    "trainer.max_epochs=2",
    "trainer.num_threads=1",
]
FAST = {
    "rotograd": ["strategy.rotation_lr=0.05"],
    "maximum_roaming": ["strategy.sigma=0.5", "strategy.updates_end=8"],
}


@pytest.mark.parametrize("name", FAST)
def test_what_is_evaluated_again_is_what_was_trained(name, tmp_path):
    """A fresh network, whose view the strategy sets up before the checkpoint is loaded, and a resumed run."""
    summary = run_overrides([*RUN, f"strategy={name}", *FAST[name]], tmp_path / "run")
    result = evaluate_run(build_spec(*read_config(RunDirectory(tmp_path / "run"))), tmp_path / "run")
    assert result["metrics"] == summary["metrics"]
    (tmp_path / "run/summary.json").unlink()
    assert resume_run(tmp_path / "run")["metrics"] == summary["metrics"]


def test_from_measured_affinities_to_groups(tmp_path):
    run_overrides([*RUN, "strategy=tag_affinity", "strategy.measure_every=3"], tmp_path / "run")
    affinity = read_affinity(read_run(tmp_path / "run"))
    assert affinity.shape == (2, 2)
    assert torch.isfinite(affinity).all()
    assert (affinity.diagonal() > 0).all()
    command = [sys.executable, str(REPOSITORY / "scripts/group_tasks.py"), f"run={tmp_path / 'run'}", "budget=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "network 0: train left, right; use it for left, right" in done.stdout
    script = runpy.run_path(command[1])
    for wrong in (["budget=one"], [], ["budget=1", "networks=2"], ["budget=1", "overlap=no"]):
        with pytest.raises(ConfigError):
            script["main"]([command[2], *wrong])


def test_a_run_without_affinities(tmp_path):
    run_overrides([*RUN, "trainer.max_steps=1"], tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="tag_affinity"):
        read_affinity(read_run(tmp_path / "run"))
