"""The four scripts as commands, one after another, in a copy of what git tracks: every data set, every layout."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import miniature_faces, miniature_streets, miniatures

REPOSITORY = Path(__file__).resolve().parents[2]
MTAN = ["backbone.filters=[4,8]", "heads.hidden_features=4", "dataset.batch_size=3", "dataset.eval_batch_size=2"]
CNN = ["backbone.width=4", "dataset.batch_size=12"]
CASES = {
    "nyuv2 official": (miniatures.write_official, "nyuv2", "32x48", MTAN, "NYUv2 (pseudo normals, 6 training"),
    "nyuv2 mtan": (miniatures.write_mtan, "nyuv2", "32x48", MTAN, "NYUv2 (MTAN's files"),
    "nyuv2 folder": (miniatures.write_folder, "nyuv2", "32x48", MTAN, "NYUv2 (JPEG, 8-bit depth, pseudo normals"),
    "cityscapes official": (miniature_streets.write_official, "cityscapes", "32x64", MTAN, "Cityscapes (raw frames"),
    "cityscapes mtan": (miniature_streets.write_mtan, "cityscapes", "64x128", MTAN, "Cityscapes (MTAN's files"),
    "celeba": (miniature_faces.write, "celeba", "32x32", CNN, "CelebA (48 training"),
}
"""Writer of the raw files, data set, size, what makes the runs small, and how the note under the table begins."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The tracked files as they are now, nothing else: no data, no outputs, nothing installed from elsewhere."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    root = tmp_path_factory.mktemp("clone")
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, root / name)
    return root


def execute(clone, *words):
    environment = {key: value for key, value in os.environ.items() if key != "MTL_DATA"} | {"PYTHONPATH": str(clone)}
    done = subprocess.run(
        [sys.executable, *words], cwd=clone, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_prepare_train_evaluate_table(name, clone, tmp_path):
    """Defaults all the way: the prepared set lies in data/, the run in outputs/, as the pages of the project say."""
    write, dataset, size, small, note = CASES[name]
    for place in ("data/prepared", "outputs"):
        shutil.rmtree(clone / place, ignore_errors=True)
    execute(
        clone,
        "scripts/prepare_data.py",
        f"dataset={dataset}",
        f"source={write(tmp_path / 'raw')}",
        f"size={size}",
        "allow_partial=true",
    )
    table = [f"table=community/{dataset}", "rows=uniform", "trainer.max_epochs=1", "trainer.max_steps=2", "seed=0"]
    table += ["trainer.eval_every_epochs=1", f"dataset.size=[{size.replace('x', ',')}]", *small]
    plan = execute(clone, "scripts/table.py", *table, "plan=true")
    commands = [shlex.split(line) for line in plan.splitlines() if line.startswith("python scripts/train.py ")]
    assert len(commands) == 1
    execute(clone, *commands[0][1:])
    (path,) = (clone / "outputs").rglob("summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "completed"
    again = json.loads(execute(clone, "scripts/evaluate.py", f"run={path.parent}"))
    assert str(again["metrics"]["test"]) == str(summary["metrics"]["test"])
    execute(clone, "scripts/table.py", *table, f"out={tmp_path}")
    (text,) = (file.read_text() for file in tmp_path.glob("*.md"))
    assert f"Data: {note}" in text
    with next(tmp_path.glob("*.csv")).open(encoding="utf-8") as stream:
        values = {row["column"]: row["ours"] for row in csv.DictReader(stream) if row["kind"] == "cell"}
    assert values
    assert all(values.values())
    for task in summary["tasks"]:
        assert any(column.startswith(task) for column in values), task
