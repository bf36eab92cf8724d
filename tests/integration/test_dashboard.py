"""The W&B workspace as code, and Delta_m for W&B summaries: on runs that were mirrored offline."""

import json
import re
import subprocess
import sys
import warnings

import pytest

from mtl.config import run_overrides
from mtl.errors import ConfigError, UserError
from mtl.results.annotation import find_deltas
from mtl.results.dashboard import build_workspace, to_json
from mtl.results.runs import load_runs
from mtl.results.tables import compare
from tests.integration.test_wandb import ENVIRONMENT, QUICK
from tests.problems import REPOSITORY
from tests.wandb_files import read_run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses what its own libraries call deprecated
    pytest.importorskip("wandb_workspaces.workspaces")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two single-task runs and two methods; one of them mirrored, with diagnostics."""
    root = tmp_path_factory.mktemp("dashboard")
    plain = [option for option in QUICK if not option.startswith("tracking=")]
    for name, options in {
        "left": [*plain, "dataset.tasks=[left]"],
        "right": [*plain, "dataset.tasks=[right]"],
        "pcgrad": [*plain, "strategy=pcgrad"],
        "selective": [*QUICK, "strategy=selective_groups"],
    }.items():
        run_overrides([*options, "dataset.test_size=160"], root / name)
    return root


def panels(root):
    spec = to_json(build_workspace(load_runs(root), "team", "mtl"))["spec"]
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_every_panel_shows_something_that_is_there(root):
    """Each name, and each pattern, against what the mirror wrote of a run that has it all but weights."""
    (file,) = read_run(root / "selective")[:1]
    history = {name for row in file.history for name in row} | {f"train/weights/{task}" for task in ("left", "right")}
    deltas = {"delta_m"}
    for section in panels(root).values():
        for panel in section:
            config = panel["config"]
            for name in config.get("metrics", []) if "xAxis" in config or "yAxis" in config else []:
                assert name in history, name
            if "metricRegex" in config:
                assert any(re.fullmatch(config["metricRegex"], name) for name in history), config["metricRegex"]
            for name in config.get("mediaKeys", []):
                assert name in history, name
            if panel["viewType"] == "Scatter Plot":
                for axis in ("xAxis", "yAxis"):
                    assert config[axis].removeprefix("summary:") in set(file.summary) | deltas, config[axis]


def test_the_panels_of_the_project(root):
    found = panels(root)
    assert list(found) == ["Results", "Tasks", "Weights", "Conflicts", "Updates", "Groups and affinities"]
    titles = {
        section: [panel["config"].get("chartTitle", "") for panel in content] for section, content in found.items()
    }
    assert "delta_m (%) against CPU seconds of training" in titles["Results"]
    for task in ("left", "right"):
        for split in ("val", "test"):
            assert f"{task}: accuracy, {split}" in titles["Tasks"]
    assert "task weights" in titles["Weights"]
    assert "conflicts over the run" in titles["Conflicts"]
    axes = {p["config"]["chartTitle"]: p["config"].get("xAxis") for p in (*found["Tasks"], *found["Weights"])}
    assert axes["left: accuracy, val"] == "epoch"
    assert axes["task weights"] == "step"


def test_panels_follow_the_runs(root):
    """Single-task runs without groups and affinities get no panels of them."""
    only = [run for run in load_runs(root) if run.is_single_task]
    sections = [section.name for section in build_workspace(only, "", "mtl").sections]
    assert "Groups and affinities" not in sections
    with pytest.raises(UserError, match="at least one run"):
        build_workspace([], "", "mtl")


def test_the_command_writes_the_workspace_and_delta_m(root, tmp_path):
    out = tmp_path / "dashboard.json"
    command = [sys.executable, str(REPOSITORY / "scripts/dashboard.py"), f"runs={root}", f"out={out}", "delta_m=true"]
    done = subprocess.run(command, check=True, timeout=250, capture_output=True, text=True, env=ENVIRONMENT)
    assert "Delta_m added to 1 of 2 runs" in done.stdout
    assert json.loads(out.read_text())["project"] == "mtl"
    first, *_, last = read_run(root / "selective")
    assert last.ids == first.ids
    assert last.history == []
    (row,) = (row for row in compare(load_runs(root)).rows if row.label == "selective_groups")
    assert last.summary["delta_m"] == row.delta_m["Delta_m"].mean


def test_delta_m_is_that_of_the_tables(root):
    runs = load_runs(root)
    found = find_deltas(runs)
    assert {path.name for path in found} == {"pcgrad", "selective"}
    assert find_deltas([run for run in runs if run.path.name != "left"]) == {}


def test_wrong_arguments_are_told(root):
    for arguments, message in [
        ([], "runs=DIR"),
        ([f"runs={root}", "what=1"], "KEY of runs, out"),
        ([f"runs={root}", "upload=yes"], "true or false"),
        ([f"runs={root}", "upload=true"], "entity=NAME"),
    ]:
        command = [sys.executable, str(REPOSITORY / "scripts/dashboard.py"), *arguments]
        done = subprocess.run(command, check=False, timeout=100, capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_missing_package_is_told(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ConfigError, match="pip install"):
        build_workspace(load_runs(root), "", "mtl")
