"""Tables of papers on miniatures: prepared data, the plan's commands, training, evaluation, a printed row."""

import json
import shlex

import pytest

from mtl.config import evaluate_main, prepare_main, train_main
from mtl.config.build import config_directory
from mtl.config.tables import table_main
from mtl.results.definition import load_definition, table_names
from tests import miniature_faces, miniature_streets, miniatures
from tests.unit.datasets.test_multimnist import write_source

SHORT = ["trainer.max_epochs=1", "trainer.max_steps=2", "trainer.eval_every_epochs=1", "seed=0"]
ROOMS = ["dataset.size=[32,48]", "dataset.batch_size=3"]
STREETS = ["dataset.size=[32,64]", "dataset.batch_size=3"]
FACES = ["dataset.size=[32,32]", "dataset.batch_size=12"]
MTAN = ["backbone.filters=[4,8]", "heads.hidden_features=4"]
UNET = ["backbone.filters=[4,8]"]
CNN = ["backbone.width=4"]
RESNET = ["backbone.pretrained=none", "heads.hidden_features=4"]
RATE = ["optimizer.lr=0.0001"]  # one of a grid
FIXED_RATE = ["optimizer.lr=0.001"]
HELD_OUT = ["dataset.val_size=2"]
DIGITS = ["dataset.val_size=10", "dataset.batch_size=20"]
TABLES = {
    "community/nyuv2": ("nyuv2", [*ROOMS, *MTAN]),
    "community/nyuv2_libmtl": ("nyuv2", [*ROOMS, *MTAN]),
    "community/nyuv2_resnet": ("nyuv2", [*ROOMS, *RESNET]),
    "hervella2024/nyuv2": ("nyuv2", [*ROOMS, *UNET, *RATE, *HELD_OUT]),
    "jeong2025/nyud": ("nyuv2", [*ROOMS, "backbone.pretrained=false"]),
    "pascal2021/nyuv2": ("nyuv2", [*ROOMS, *UNET, *RATE, *HELD_OUT]),
    "pascal2021/nyuv2_released": ("nyuv2", [*ROOMS, *UNET]),
    "community/cityscapes": ("cityscapes", [*STREETS, *MTAN]),
    "pascal2021/cityscapes": ("cityscapes", [*STREETS, *UNET, *RATE, *HELD_OUT]),
    "pascal2021/cityscapes_released": ("cityscapes", [*STREETS, *UNET]),
    "sener2018/cityscapes": ("cityscapes", [*STREETS, *RESNET, *RATE, *HELD_OUT]),
    "sener2018/cityscapes_released": ("cityscapes", [*STREETS, *RESNET]),
    "community/celeba": ("celeba", [*FACES, *CNN]),
    "pascal2021/celeba": ("celeba", [*FACES, *CNN, *RATE]),
    "pascal2021/celeba_released": ("celeba", [*FACES, *CNN]),
    "sener2018/celeba": ("celeba", [*FACES, *CNN, *RATE]),
    "sener2018/celeba_released": ("celeba", [*FACES, *CNN]),
    "sener2018/celeba_attributes": ("celeba", [*FACES, *CNN, *RATE]),
    "pascal2021/celeba_groups": ("celeba", [*FACES, *CNN, *RATE]),
    "community/nyuv2_small": ("nyuv2", [*ROOMS, *UNET, *FIXED_RATE, *HELD_OUT]),
    "community/nyuv2_segnet_small": ("nyuv2", [*ROOMS, *UNET, *FIXED_RATE, *HELD_OUT]),
    "hervella2024/nyuv2_small": ("nyuv2", [*ROOMS, *UNET, *FIXED_RATE, *HELD_OUT]),
    "pascal2021/nyuv2_small": ("nyuv2", [*ROOMS, *UNET, *FIXED_RATE, *HELD_OUT]),
    "jeong2025/nyuv2_small": ("nyuv2", [*ROOMS, *UNET, *FIXED_RATE, *HELD_OUT]),
    "sener2018/multimnist": ("digits", [*DIGITS, *RATE]),
    "sener2018/multifashion": ("digits", [*DIGITS, *RATE]),
    "sener2018/multifashionmnist": ("digits", [*DIGITS, *RATE]),
    "sener2018/multimnist_short": ("digits", [*DIGITS, "optimizer.lr=0.01"]),
    "sener2018/multifashion_short": ("digits", [*DIGITS, "optimizer.lr=0.01"]),
    "sener2018/multimnist_released": ("digits", ["dataset.batch_size=20"]),
}
"""Table -> data, and what makes its runs small."""
SHARED = {  # no runs of their own
    "sener2018/celeba_approximation",
    "sener2018/cityscapes_approximation",
    "sener2018/multimnist_rerun",
    "community/multidigits",  # test_table_command.py and test_table_shell.py train it
}
ONE = {
    "community/nyuv2": "famo",
    "community/cityscapes": "graddrop",
    "pascal2021/cityscapes": "igd_per_task",
    "sener2018/cityscapes": "mgda_ub",
    "community/celeba": "fairgrad",
}
"""Of each data set's table, the row of the fast test."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data set -> prepared directory."""
    root = tmp_path_factory.mktemp("data")
    sources = {
        "nyuv2": (miniatures.write_official(root / "raw" / "rooms"), "32x48"),
        "cityscapes": (miniature_streets.write_official(root / "raw" / "streets"), "32x64"),
        "celeba": (miniature_faces.write(root / "raw" / "faces"), "32x32"),
    }
    for name, (raw, size) in sources.items():
        arguments = [f"dataset={name}", f"source={raw}", f"out={root / name}", f"size={size}", "allow_partial=true"]
        assert prepare_main(arguments) == 0
    for folder in ("MNIST/raw", "FashionMNIST/raw"):
        write_source(root / "digits" / folder)
    return {name: root / name for name in (*sources, "digits")}


def train_the_plan(capsys, arguments, runs):
    """Run the commands that `plan=true` prints."""
    assert table_main([*arguments, "plan=true"]) == 0, capsys.readouterr().err
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("python scripts/train.py ")]
    for line in lines:
        words = [*shlex.split(line)[2:], f"paths.output_dir={runs}", "tracking.progress=none", "trainer.device=cpu"]
        assert train_main(words) == 0, f"{line}\n{capsys.readouterr().err}"
    return len(lines)


def arguments_of(table, prepared, runs):
    data, small = TABLES[table]
    place = "data_dir" if data == "digits" else "prepared"
    return [f"table={table}", f"runs={runs}", *SHORT, *small, f"dataset.{place}={prepared[data]}"]


@pytest.mark.parametrize("table", ONE)
def test_from_prepared_data_to_a_row(table, prepared, tmp_path, capsys):
    row = ONE[table]
    arguments = [*arguments_of(table, prepared, tmp_path / "runs"), f"rows={row}"]
    assert train_the_plan(capsys, arguments, tmp_path / "runs") == 1
    (summary,) = (tmp_path / "runs").rglob("summary.json")
    capsys.readouterr()
    assert evaluate_main([f"run={summary.parent}"]) == 0
    tested = json.loads(summary.read_text())["metrics"]["test"]
    assert json.loads(capsys.readouterr().out)["metrics"]["test"] == tested
    assert table_main([*arguments, f"out={tmp_path}"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    (file,) = tmp_path.glob("*.csv")
    values = [line for line in file.read_text().splitlines() if line.startswith("seed,")]
    assert len(values) == len(load_definition(config_directory() / "table", table).columns)


def test_every_table_whose_data_can_be_read_is_trained_somewhere():
    unread = {"jeong2025/pascal_context", "jeong2025/taskonomy"}
    assert set(table_names(config_directory() / "table")) == set(TABLES) | SHARED | unread


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_a_table_trains_in_its_protocol(table, prepared, tmp_path, capsys):
    """What a network cannot give a method shows in the first step; of 40 attributes two are trained alone."""
    definition = load_definition(config_directory() / "table", table)
    rows = [row.label.partition(" ")[0] for row in definition.rows if row.sweep]
    arguments = [*arguments_of(table, prepared, tmp_path), f"rows={','.join(rows)}"]
    shown = set(rows)
    if TABLES[table][0] == "celeba" and "single_task" in rows:
        arguments += ["dataset.tasks=[Smiling],[Male]"]
        shown -= {"single_task"}  # two attributes have no mean over forty
    train_the_plan(capsys, arguments, tmp_path)
    states = {json.loads(path.read_text())["status"] for path in tmp_path.rglob("summary.json")}
    assert states == {"completed"}
    assert table_main([*arguments, "plan=true"]) == 0
    assert "missing ones" not in capsys.readouterr().out
    assert table_main([*arguments, f"out={tmp_path}"]) == 0, capsys.readouterr().err
    (file,) = tmp_path.glob("*.csv")
    seeds = [line.split(",")[1] for line in file.read_text().splitlines() if line.startswith("seed,")]
    assert shown <= {label.partition(" ")[0] for label in seeds}
