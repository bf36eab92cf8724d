"""Packages of users, named in MTL_PLUGINS: allowed, composed, recorded, compared, and nothing else let in."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtl.config import evaluate_main, train_main
from mtl.config.plugins import config_directory, find_configs, find_root, plugin_packages
from mtl.config.tables import table_main
from mtl.errors import ConfigError, UserError
from mtl.results.assignment import assign
from mtl.results.runs import read_run
from mtl.results.tables import compare
from mtl.training.provenance import source_digest
from tests.integration.test_bad_input import QUICK
from tests.problems import REPOSITORY
from tests.unit.results.test_paper_tables import DEFINITION, PLAN, make

CODE = """
from mtl.weighting import LossWeighting

class Halves(LossWeighting):
    def weigh(self, losses):
        return losses.new_full(losses.shape, 0.5)
"""
STRATEGY = "_target_: mtl.strategies.LossWeightingStrategy\nweighting:\n  _target_: {name}.halves.Halves\n"


def write(root: Path, name: str, config: str = "halves") -> Path:
    package = root / name
    (package / "configs/strategy").mkdir(parents=True)
    (package / "halves.py").write_text(CODE)
    (package / f"configs/strategy/{config}.yaml").write_text(STRATEGY.format(name=name))
    return package


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    """A package of this test alone: Python keeps what it imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    directory = write(tmp_path, f"plugin_{request.node.name.partition('[')[0]}")
    monkeypatch.setenv("MTL_PLUGINS", str(directory))
    return directory


def train(path, *arguments, code=0):
    assert train_main([*QUICK, f"hydra.run.dir={path}", *arguments]) == code
    return path


def test_a_package_is_composed_recorded_resumed_and_evaluated(package, tmp_path, capsys, monkeypatch):
    run = train(tmp_path / "run", "strategy=halves")
    state = json.loads((run / "summary.json").read_text())["git"]["plugins"]
    assert {name: entry["files"] for name, entry in state.items()} == {package.name: source_digest(package)}
    assert f"_target_: {package.name}.halves.Halves" in (run / "config.yaml").read_text()
    start = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert start["git"]["plugins"] == state
    capsys.readouterr()
    assert evaluate_main([f"run={run}"]) == 0
    assert set(json.loads(capsys.readouterr().out)["metrics"]) == {"val", "test"}
    (run / "summary.json").unlink()
    assert train_main([f"resume={run}"]) == 0
    monkeypatch.delenv("MTL_PLUGINS")  # a run directory alone lets no code in
    for main, argument in ((evaluate_main, "run"), (train_main, "resume")):
        (run / "summary.json").unlink(missing_ok=True)
        assert main([f"{argument}={run}"]) == 1
        assert f"`export MTL_PLUGINS=path/to/{package.name}`" in capsys.readouterr().err


def test_runs_without_its_code_do_not_name_a_package(package, tmp_path):
    run = train(tmp_path / "run", "strategy=uniform")
    assert "plugins" not in json.loads((run / "summary.json").read_text())["git"]
    assert read_run(run).plugins == {}


def test_the_digest_is_of_python_files(package):
    before = source_digest(package)
    (package / "configs/strategy/halves.yaml").write_text("{}")  # what it says is in config.yaml
    assert source_digest(package) == before
    (package / "deeper").mkdir()
    (package / "deeper/more.py").touch()
    added = source_digest(package)
    (package / "deeper/more.py").rename(package / "deeper/other.py")
    assert len({before, added, source_digest(package)}) == 3


def test_two_packages_and_multirun(package, tmp_path, monkeypatch, capsys):
    other = write(tmp_path, f"{package.name}_other", "other_halves")
    monkeypatch.setenv("MTL_PLUGINS", f"{package}:{other}")
    assert set(plugin_packages()) == {package.name, other.name}
    assert {"halves", "other_halves", "uniform"} <= set(find_configs("strategy"))
    out = f"paths.output_dir={tmp_path / 'out'}"
    sweep = ["-m", *QUICK, out, "strategy=halves,other_halves,uniform"]
    assert train_main(sweep) == 0
    runs = {run.strategy: run for run in map(read_run, (p.parent for p in tmp_path.rglob("summary.json")))}
    assert {name: list(run.plugins) for name, run in runs.items()} == {
        "halves": [package.name],
        "other_halves": [other.name],
        "uniform": [],
    }
    capsys.readouterr()
    assert train_main(sweep) == 0
    assert "another version of the code" not in capsys.readouterr().out
    (package / "more.py").touch()
    assert train_main(sweep) == 0
    assert "1 of its runs were made by another version of the code" in capsys.readouterr().out


def test_names_that_are_taken_are_refused(package, tmp_path, monkeypatch, capsys):
    (package / "configs/strategy/uniform.yaml").write_text("{}")
    train(tmp_path / "run", "strategy=uniform", code=1)
    assert "have the same name. Rename yours." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["yaml", "mtl", "no-name"])
def test_directories_that_are_no_package_of_their_own_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(tmp_path, name)
    monkeypatch.setenv("MTL_PLUGINS", str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"Rename yours|not the name of a package"):
        plugin_packages()


def test_a_directory_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MTL_PLUGINS", str(tmp_path / "nowhere"))
    train(tmp_path / "run", code=1)
    assert "which is no directory" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["os.system", "subprocess.run", "plugin.halves.Halves"])
def test_nothing_else_is_let_in(package, target, tmp_path, capsys):
    train(tmp_path / "run", f"backbone._target_={target}", code=1)
    assert f"{package.name}. For a package of your own" in capsys.readouterr().err


def test_a_table_of_a_package(package, tmp_path):
    """Definition, sweep and protocol lie in the package; the plan's command makes the run that the table wants."""
    files = {
        "experiment/mine/digits.yaml": "# @package _global_\nexperiment_name: mine/digits\n",
        "sweep/mine/digits.yaml": "# @package _global_\ndefaults: [/experiment/mine/digits]\n"
        "hydra: {sweeper: {params: {strategy: halves, seed: '0'}}}\n",
        "table/mine/digits.yaml": "title: Mine\ndataset: multidigits\nexperiment: mine/digits\n"
        "columns: [{task: left, metric: accuracy}]\nrows: [{label: halves, sweep: mine/digits}]\n"
        "protocol: {ours: [all]}\n",
    }
    for name, text in files.items():
        (package / "configs" / name).parent.mkdir(parents=True, exist_ok=True)
        (package / "configs" / name).write_text(text)
    assert find_root("table", "mine/digits") == package / "configs/table"
    assert find_root("table", "community/multidigits") == config_directory() / "table"
    assert train_main(["-m", "sweep=mine/digits", *QUICK, f"paths.output_dir={tmp_path / 'out'}"]) == 0
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        arguments = [f"runs={tmp_path / 'out'}", *(key for key in QUICK if not key.startswith("tracking"))]
        assert table_main(["table=mine/digits", "plan=true", *arguments]) == 0
        assert table_main(["table=mine/digits", *arguments]) == 0
        assert table_main(["table=list"]) == 0
    assert "1 of 1 runs are there" in text.getvalue()
    assert f"{package.name} {source_digest(package)}" in text.getvalue()
    assert text.getvalue().count("mine/digits") == 2  # in the plan and in the list


def test_tables_refuse_two_versions_of_a_package(tmp_path):
    def run(number, job, files):
        plugins = {"plugins": {"mine": {"commit": None, "dirty": None, "files": files}}} if files else {}
        return make(tmp_path, job, 90.0, 80.0, name=f"run{number}", git={"commit": "a", "dirty": False, **plugins})

    jobs = [job for job in PLAN if job.row in ("uniform", "mgda_ub")]
    same = [run(number, job, "" if job.row == "uniform" else "1") for number, job in enumerate(jobs)]
    assign(DEFINITION, PLAN, same)  # what does not use the package mixes with what does
    mixed = [*same[:-1], run("other", jobs[-1], "2")]
    with pytest.raises(UserError, match=r"2 versions of `mine`:\n  1: .*\n  2: 1 runs"):
        assign(DEFINITION, PLAN, mixed)
    assert any("versions of `mine` are mixed" in text for text in assign(DEFINITION, PLAN, mixed, True).warnings)
    for runs, start in (
        (same, "Packages outside"),
        (mixed, "WARNING: several versions of one of the packages"),
    ):
        notes = compare(runs).footnotes
        assert sum(note.startswith(start) and "mine 1" in note for note in notes) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_laws_take_up_methods_of_packages_and_their_exceptions(package, tmp_path, monkeypatch):
    """Both weight their only task by a half, which breaks a law; the second package says so, with the reason."""
    other = write(tmp_path, f"{package.name}_other", "excused_halves")
    (other / "law_exceptions.yaml").write_text("single_task:\n  excused_halves: weights its only task by a half\n")
    monkeypatch.setenv("MTL_PLUGINS", f"{package}:{other}")
    chosen = ["tests/contract/test_laws.py", "-k", "halves and law_02"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=800)
    assert "1 failed, 1 passed" in done.stdout
    assert "add ('single_task', 'halves') to" in done.stdout
    assert "law_exceptions.yaml" in done.stdout
