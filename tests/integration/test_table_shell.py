"""Tables from the command line alone, as a reader types them: plan, the printed commands, the table. One a data set."""

import csv
import os
import shlex
import subprocess
import sys

import pytest

from mtl.config import prepare_main
from tests import miniature_faces, miniature_streets, miniatures
from tests.problems import REPOSITORY
from tests.unit.datasets.test_multimnist import write_source

SHORT = ["trainer.max_epochs=1", "trainer.max_steps=2", "trainer.eval_every_epochs=1"]
POINTS = "strategy.weighting.weights="
ONE = ["seed=0", "optimizer.lr=0.001"]
RESNET = ["backbone.pretrained=none", "heads.hidden_features=4"]
HELD_OUT = ["dataset.val_size=2", "dataset.batch_size=3"]
CASES = {
    "community/multidigits": (
        "single_task,static,mgda",
        [*ONE, POINTS + "[0.3,0.7],[0.5,0.5]", *(f"dataset.{part}_size=64" for part in ("train", "val", "test"))],
        6,
    ),
    "sener2018/multimnist_short": (
        "single_task,uniform,static,mgda_ub",
        ["seed=0,1", POINTS + "[0.2,0.8],[0.5,0.5]", "dataset.val_size=10", "dataset.batch_size=20"],
        16,
    ),
    "hervella2024/nyuv2_small": (
        "single_task,static,mao",
        [*ONE, POINTS + "[1,1,1],[1.8,0.6,0.6]", "dataset.size=[32,48]", *HELD_OUT, "backbone.filters=[4,8]"],
        27,
    ),
    "sener2018/cityscapes": (
        "single_task,uniform,static,mgda_ub",
        [*ONE, POINTS + "[0.2,0.4,0.4]", "dataset.size=[32,64]", *HELD_OUT, *RESNET],
        12,
    ),
    "sener2018/celeba_attributes": (
        "single_task,uniform,mgda_ub",
        [*ONE, "dataset.tasks=[Smiling],[Male]", "dataset.size=[32,32]", "dataset.batch_size=12", "backbone.width=4"],
        82,
    ),
}
"""Table -> rows, a cut-down grid, lines `seed` of the CSV."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory that has miniatures of everything."""
    root = tmp_path_factory.mktemp("data")
    rooms, streets, faces = root / "rooms", root / "streets", root / "faces"
    for name, raw, size in (
        ("nyuv2", miniatures.write_folder(rooms), "32x48"),
        ("cityscapes", miniature_streets.write_official(streets), "32x64"),
        ("celeba", miniature_faces.write(faces), "32x32"),
    ):
        place = f"out={root / 'prepared'}/{name}-{size}"
        assert prepare_main([f"dataset={name}", f"source={raw}", place, f"size={size}", "allow_partial=true"]) == 0
    write_source(root / "MNIST" / "raw")
    return root


def shell(words, data):
    """Run `python scripts/...` as from the root of the repository."""
    command = [sys.executable, *words[1:]]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"MTL_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done.stdout


def table(data, *arguments):
    return shell(["python", "scripts/table.py", *arguments], data)


def commands_of(text):
    return [shlex.split(line) for line in text.splitlines() if line.startswith("python scripts/train.py ")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_plan_printed_commands_table(name, data, tmp_path):
    rows, grid, values = CASES[name]
    arguments = [f"table={name}", f"rows={rows}", f"runs={tmp_path / 'runs'}", *SHORT, *grid]
    rounds = 0
    while commands := commands_of(table(data, *arguments, "plan=true")):
        rounds += 1
        assert rounds < 3, commands
        for words in commands:
            shell([*words, f"paths.output_dir={tmp_path / 'runs'}", "tracking.progress=none"], data)
    assert rounds == (2 if "seed=0,1" in grid else 1)  # candidates on seed 0, then what they choose on the other one
    text = table(data, *arguments, f"out={tmp_path}")
    assert "provisional" not in text
    (file,) = tmp_path.glob("*.csv")
    lines = [line for line in csv.DictReader(file.read_text().splitlines()) if line["kind"] == "seed"]
    assert {line["method"].partition(" ")[0] for line in lines} == set(rows.split(","))
    assert len(lines) == values
