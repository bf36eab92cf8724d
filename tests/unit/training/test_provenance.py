"""What makes two runs the same but for the seed."""

import copy
import shutil
import subprocess
import sys

import pytest

from mtl.training import provenance
from mtl.training.provenance import code_digest, config_hash, git_state, same_code, setting_hash
from tests.problems import REPOSITORY

CONFIG = {
    "dataset": {"data_dir": "/a", "prepared": None, "size": [8, 8], "eval_batch_size": 2, "legacy_metrics": False},
    "backbone": {"norm_eval": "running"},
    "strategy": {"_target_": "x"},
    "trainer": {"device": "cpu", "max_epochs": 1},
    "paths": {"data_dir": "/a", "output_dir": "/b"},
    "seed": 0,
}


def changed(**values):
    config = copy.deepcopy(CONFIG)
    for path, value in values.items():
        group, _, key = path.partition("__")
        config[group][key] = value
    return config


@pytest.mark.parametrize("digest", [config_hash, setting_hash])
def test_places_and_cuts_do_not_count_and_sizes_do(digest):
    elsewhere = changed(dataset__data_dir="/c", dataset__prepared="/d", paths__data_dir="/c", paths__output_dir="/e")
    assert digest(elsewhere) == digest(CONFIG)
    assert digest(changed(dataset__eval_batch_size=3)) == digest(CONFIG)
    assert digest(changed(dataset__size=[8, 9])) != digest(CONFIG)


@pytest.mark.parametrize("digest", [config_hash, setting_hash])
@pytest.mark.parametrize("switch", [{"dataset__legacy_metrics": True}, {"backbone__norm_eval": "batch"}])
def test_the_evaluation_batch_counts_where_results_depend_on_it(digest, switch):
    assert digest(changed(**switch)) != digest(changed(**switch, dataset__eval_batch_size=3))


@pytest.mark.parametrize(
    ("later", "other"), [(("trainer", "precision", "float32"), "bfloat16"), (("strategy", "ema", 0.0), 0.5)]
)
def test_runs_made_before_an_option_existed_keep_their_hash(later, other):
    """A key that a later version added, at the value that says what was before, makes no run a stranger."""
    group, key, before = later
    assert config_hash(changed(**{f"{group}__{key}": before})) == config_hash(CONFIG)
    assert config_hash(changed(**{f"{group}__{key}": other})) != config_hash(CONFIG)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_optimizers_with_the_same_numbers_make_the_same_runs(name):
    with_torch, with_ours, other = (
        config_hash(CONFIG | {"optimizer": {"_target_": f"{package}.{name}", "lr": 0.1}})
        for package in ("torch.optim", "mtl.training.optimizers", "somewhere.else")
    )
    assert with_torch == with_ours
    assert with_torch != other


def test_the_digest_of_the_code_needs_no_git_and_moves_with_the_code_alone(tmp_path):
    package = tmp_path / "mtl"
    shutil.copytree(REPOSITORY / "mtl", package, ignore=shutil.ignore_patterns("__pycache__"))

    def digest():
        command = [sys.executable, "-c", "from mtl.training.provenance import code_digest; print(code_digest())"]
        done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True)
        return done.stdout

    before = digest()
    assert before.decode().strip() == code_digest()
    for path in (tmp_path / "README.md", package / "results/tables.py", package / "results/published/any.yaml"):
        path.write_text("another")
    assert digest() == before
    with (package / "training/trainer.py").open("a") as file:
        file.write("# another\n")
    assert digest() != before


def test_what_is_apart_from_the_code_is_imported_by_no_training():
    """Only commands import it, which configure and start runs or read what they wrote."""
    builders = ("build", "check", "entry", "plugins", "schema")
    for path in (REPOSITORY / "mtl").rglob("*.py"):
        room, name = path.relative_to(REPOSITORY / "mtl").parts[0], path.stem
        if room not in (*provenance.APART, "config") or (room == "config" and name in builders):
            assert not any(f"mtl.{apart}" in path.read_text() for apart in provenance.APART if room != apart), path


def test_whether_a_run_is_of_this_code(tmp_path):
    (tmp_path / "package.py").write_text("x = 1\n")
    plugins = {"package": tmp_path}
    old = {"git": git_state()}
    assert same_code(old)
    assert not same_code({"git": {"commit": "c" * 40, "dirty": False}})
    assert same_code({"git": {"commit": "c" * 40, "dirty": False}, "code": code_digest()})
    assert not same_code(old | {"code": "another"})
    used = {"git": git_state(plugins), "code": code_digest()}
    assert same_code(used, plugins)
    (tmp_path / "package.py").write_text("x = 2\n")
    assert not same_code(used, plugins)
