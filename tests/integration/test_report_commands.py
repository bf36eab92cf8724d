"""What the report needs from real runs: the commands of missing baselines, and pictures of dense tasks."""

import shlex

import pytest

from mtl.config import prepare_main, run_overrides
from mtl.config.baselines import baseline_commands, setting_overrides
from mtl.config.build import build_spec
from mtl.config.entry import compose_config
from mtl.config.report import report_main
from mtl.results.runs import load_runs
from mtl.training.provenance import setting_hash
from tests.integration.test_predictions import SCENES, SHORT
from tests.miniatures import WRITERS

QUICK = ["trainer.device=cpu", "tracking.progress=none", "trainer.max_steps=1", "dataset.train_size=300"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two multi-task runs of an unusual setting, and one single-task run of one of their tasks."""
    path = tmp_path_factory.mktemp("runs")
    changes = ["scheduler=cosine", "heads=mlp", "optimizer=sgd", "optimizer.lr=0.03", "trainer.max_epochs=2"]
    common = [*QUICK, *changes, "experiment_name=odd"]
    run_overrides([*common, "strategy=pcgrad", "seed=3"], path / "pcgrad")
    run_overrides([*common, "seed=4"], path / "uniform")
    run_overrides([*common, "dataset.tasks=[left]", "seed=3"], path / "left")
    return path


def test_the_command_makes_runs_of_the_same_setting(root):
    runs = load_runs(root)
    (command,) = baseline_commands(runs)
    script, flag, *words = shlex.split(command)[1:]
    assert (script, flag) == ("scripts/train.py", "-m")
    assert "dataset.tasks=[right]" in words
    assert "seed=3,4" in words
    single = ["seed=3" if word.startswith("seed=") else word for word in words]
    assert setting_hash(build_spec(*compose_config(single)).config) == runs[0].setting_hash
    assert "experiment_name=odd" in words
    assert not any(word.startswith(("paths", "trainer.device", "tracking")) for word in words)


def test_no_command_where_nothing_is_missing(root):
    assert baseline_commands([run for run in load_runs(root) if run.is_single_task]) == []
    several = [run for run in load_runs(root) if not run.is_single_task]
    assert len(baseline_commands(several)) == 1


def test_a_setting_that_cannot_be_said_is_pointed_at(root, tmp_path):
    import shutil

    shutil.copytree(root / "uniform", tmp_path / "uniform")
    (tmp_path / "uniform" / "config.yaml").write_text("names: 3\n")
    (command,) = baseline_commands(load_runs(tmp_path))
    assert "'dataset.tasks=[left],[right]' seed=4" in command
    assert str(tmp_path / "uniform" / "config.yaml") in command


def test_overrides_name_only_what_differs(root):
    run = next(run for run in load_runs(root) if run.strategy == "pcgrad")
    assert sorted(setting_overrides(run)) == [
        *("dataset.train_size=300", "heads=mlp", "optimizer.lr=0.03", "optimizer=sgd", "scheduler.factory.T_max=2"),
        *("scheduler=cosine", "trainer.max_epochs=2", "trainer.max_steps=1"),
    ]


def test_the_page_shows_the_command(root, tmp_path):
    assert report_main([f"runs={root}", f"out={tmp_path / 'r.html'}"]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Missing baselines" in page
    assert "dataset.tasks=[right]" in page


@pytest.mark.slow
def test_predictions_are_drawn_from_checkpoints_and_data(tmp_path, capsys):
    raw = WRITERS["folder"](tmp_path / "raw")
    out = tmp_path / "prepared" / "nyuv2-24x32"
    assert prepare_main(["dataset=nyuv2", f"source={raw}", f"out={out}", "size=24x32", "allow_partial=true"]) == 0
    common = [*SCENES, *SHORT, f"paths.data_dir={tmp_path}"]
    for strategy in ("uniform", "pcgrad"):
        run_overrides(
            [*common, "dataset.tasks=[segmentation,depth]", f"strategy={strategy}"], tmp_path / "runs" / strategy
        )
    for task in ("segmentation", "depth"):
        run_overrides([*common, f"dataset.tasks=[{task}]"], tmp_path / "runs" / task)
    page = tmp_path / "r.html"
    assert report_main([f"runs={tmp_path / 'runs'}", f"out={page}", "predictions=true"]) == 0
    assert "data:image/webp;base64," in page.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    for name in ("single task", "uniform", "pcgrad"):
        assert f"{name}: {tmp_path}" in said


def test_predictions_of_tasks_that_are_no_maps_are_refused(root, tmp_path, capsys):
    assert report_main([f"runs={root}", f"out={tmp_path / 'r.html'}", "predictions=true"]) == 1
    assert "Pictures are of tasks whose predictions are maps" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
