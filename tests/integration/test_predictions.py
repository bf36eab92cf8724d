"""scripts/predictions.py on miniatures: what is in the picture, and what is said when there can be none."""

import numpy as np
import pytest
import torch
from PIL import Image

from mtl.config import predictions_main, prepare_main, run_overrides
from mtl.config.predictions import _check_same_data, _predict
from mtl.datasets.packed import read_manifest
from mtl.datasets.packed_split import PackedSplit, Target
from mtl.results.colours import VOID, palette, rgb
from mtl.results.predictions import DPI, Grid
from mtl.training import predict
from tests import miniature_streets
from tests.miniatures import TEST, WRITERS

SHAPE = (24, 32)
SHORT = ["trainer.device=cpu", "tracking.progress=none", "trainer.max_steps=1", "dataset.batch_size=2"]
SCENES = ["dataset=nyuv2_small", "dataset.size=[24,32]", "dataset.val_size=2", "backbone=unet_small", "heads=conv"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A prepared miniature, and runs on it: two of all tasks, three of one task each, one of other data."""
    path = tmp_path_factory.mktemp("pictures")
    raw = WRITERS["folder"](path / "raw")
    out = path / "prepared" / "nyuv2-24x32"
    assert prepare_main(["dataset=nyuv2", f"source={raw}", f"out={out}", "size=24x32", "allow_partial=true"]) == 0
    common = [*SCENES, *SHORT, f"paths.data_dir={path}"]
    every = "dataset.tasks=[segmentation,depth,normals,edges]"
    run_overrides([*common, every], path / "all" / "uniform")
    run_overrides([*common, every, "strategy=pcgrad"], path / "all" / "pcgrad")
    for task in ("segmentation", "depth"):
        run_overrides([*common, f"dataset.tasks=[{task}]"], path / "all" / task)
    run_overrides([*common, "dataset.tasks=[segmentation]", "dataset.num_classes=40"], path / "forty")
    run_overrides([*common, "dataset.tasks=[depth]", "dataset.normalisation=imagenet"], path / "normalised")
    run_overrides([*common, "dataset.tasks=[depth]", "dataset.val_size=3"], path / "other_val")
    return path


def stored_labels(root, sample):
    directory = root / "prepared" / "nyuv2-24x32"
    manifest = read_manifest(directory, "")
    split = PackedSplit(directory, manifest, "test", torch.arange(TEST), {"labels": Target("label13", "labels")})
    return split.gather(slice(sample, sample + 1)).targets["labels"][0].numpy()


def centres(grid, picture, place):
    """The colour in the middle of every pixel of a map: (H, W, 3)."""
    (x, y), (width, height) = grid.corner(*place), grid.panel
    rows = ((y + (np.arange(SHAPE[0]) + 0.5) * height / SHAPE[0]) * DPI).astype(int)
    columns = ((x + (np.arange(SHAPE[1]) + 0.5) * width / SHAPE[1]) * DPI).astype(int)
    return picture[np.ix_(rows, columns)]


def legend_of(classes):
    from mtl.datasets.nyuv2 import CLASS_NAMES

    return (*CLASS_NAMES[13].split(", "), "void") if classes else ("void",)


@pytest.mark.parametrize(
    ("chosen", "bars", "columns"),
    [
        (["runs={}/all"], (False, True, False, False), 4),
        (["run={}/all/segmentation", "run={}/all/depth"], (False, True), 2),
    ],
)
def test_the_picture_shows_the_ground_truth_in_the_colours_of_the_palette(root, tmp_path, chosen, bars, columns):
    out = tmp_path / "new" / "picture.png"
    arguments = [argument.format(root) for argument in chosen]
    assert predictions_main([*arguments, "samples=2,0", f"out={out}"]) == 0
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    picture = np.asarray(Image.open(out).convert("RGB"))
    grid = Grid(bars, columns, 2, SHAPE, legend_of(classes=True))
    assert grid.in_a_row == (len(bars) == 2)
    assert picture.shape[1] <= 1600
    assert np.abs(np.array(picture.shape[1::-1]) - np.array(grid.whole) * DPI).max() <= 1
    colours = np.stack([*(rgb(colour) for colour in palette(13)), rgb(VOID)])  # -1 is the last one
    for row, sample in enumerate((2, 0)):
        labels = stored_labels(root, sample)
        assert len(np.unique(labels)) > 5
        assert (centres(grid, picture, (row, 0, 0)) == colours[labels]).all()


def test_a_column_holds_what_its_run_predicts_and_stays_empty_elsewhere(root, tmp_path, capsys):
    runs = [f"run={root}/all/{name}" for name in ("uniform", "depth", "segmentation", "pcgrad")]
    assert predictions_main([*runs, "samples=1", f"out={tmp_path / 'p.png'}"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:4]] == [
        *("single task", "single task", "uniform", "pcgrad")
    ]
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    grid = Grid((False, True, False, False), 4, 1, SHAPE, legend_of(classes=True))
    colours = np.stack([rgb(colour) for colour in palette(13)])
    for column, name in ((1, "segmentation"), (2, "uniform"), (3, "pcgrad")):
        outputs = _predict(root / "all" / name, "test", (1,)).outputs["segmentation"][0]
        assert (centres(grid, picture, (0, 0, column)) == colours[outputs.argmax(0).numpy()]).all()
    assert (centres(grid, picture, (0, 2, 1)) == 255).all()  # no single-task run of normals
    assert not (centres(grid, picture, (0, 2, 2)) == 255).all()


def test_the_same_command_writes_the_same_bytes(root, tmp_path):
    for name in ("a", "b"):
        assert predictions_main([f"run={root}/all/segmentation", "split=val", f"out={tmp_path / name}.pdf"]) == 0
    for suffix in (".png", ".pdf"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_runs_of_another_normalisation_have_the_same_data(root):
    first, other = (_predict(root / name, "test", (0,)) for name in ("all/depth", "normalised"))
    _check_same_data(first, other, "test")
    images = [run.split.select(()).gather(slice(0, 1)).inputs for run in (first, other)]
    assert torch.equal(*images)
    assert images[0].min() >= 0


def test_predictions_are_those_of_the_samples_asked_for(root):
    from mtl.config.build import build_spec
    from mtl.config.entry import read_config
    from mtl.training import load_run
    from mtl.training.run_directory import RunDirectory

    path = root / "all" / "uniform"
    loaded = load_run(build_spec(*read_config(RunDirectory(path))), path)
    model, loader = loaded.objective.model, loaded.loaders["test"]
    loader.batch_size = 2  # three samples: a full batch and one of a single sample
    some = predict(model, loader, (2, 1))
    assert model.training
    model.eval()
    with torch.no_grad():
        every = model(loader.split.gather(slice(0, 3)).inputs)
    assert list(some) == list(every)
    for task, outputs in every.items():
        torch.testing.assert_close(some[task], outputs[[2, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Either `run=` or `runs=` is needed"),
        (["run={}/all/uniform", "runs={}"], "Either `run=` or `runs=` is needed"),
        (["run={}/all/uniform", "sample=0"], "Arguments should be KEY=VALUE.*Found `sample=0`"),
        (["run={}/all/uniform", "split=test", "split=val"], "each but `run` once"),
        (["run={}/all/uniform", "samples=0,-1"], "`samples` should be integers of at least 0"),
        (["run={}/all/uniform", "samples=0,3,9"], "`samples` should be below 3.*Found 3, 9"),
        (["run={}/all/uniform", "split=train"], "evaluates: val, test. Found `train`"),
        (["run={}/all/uniform", "out=x.jpg"], "`out` should end in .png or .pdf"),
        (["run={}/all"], "is not a run directory"),
        (["runs={}/prepared"], "Found no runs"),
        (["run={}/all/uniform", "run={}/forty"], "the ground truth of segmentation differ"),
        (["run={}/all/segmentation", "run={}/other_val", "split=val"], "the images of split `val` differ"),
        (["run={}/all/depth", "run={}/normalised"], "both runs of depth alone with seed 0"),
    ],
)
def test_errors_are_one_message(root, arguments, message, capsys, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    assert predictions_main([argument.format(root) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_maps(tmp_path, capsys):
    run_overrides(
        [*SHORT, "dataset=multidigits", "dataset.train_size=64", "dataset.val_size=16", "dataset.test_size=16"],
        tmp_path / "run",
    )
    assert predictions_main([f"run={tmp_path / 'run'}", f"out={tmp_path / 'p.png'}"]) == 1
    assert "trained on multidigits, where left, right are not" in capsys.readouterr().err


def test_masks_offsets_and_disparity_of_streets(tmp_path):
    raw = miniature_streets.write_official(tmp_path / "raw")
    out = tmp_path / "prepared" / "cityscapes-16x32"
    assert prepare_main(["dataset=cityscapes", f"source={raw}", f"out={out}", "size=16x32", "allow_partial=true"]) == 0
    overrides = ["dataset.size=[16,32]", "dataset.val_size=2", "backbone=unet_small", "heads=conv"]
    tasks = "dataset.tasks=[segmentation,vehicle,instance,disparity]"
    run_overrides(
        ["dataset=cityscapes_scene", *overrides, *SHORT, tasks, f"paths.data_dir={tmp_path}"], tmp_path / "run"
    )
    assert predictions_main([f"run={tmp_path / 'run'}", f"out={tmp_path / 'p.png'}"]) == 0
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    assert picture.shape[1] <= 1600
    grid = Grid((False, False, False, True), 2, 3, (16, 32), ("void",))
    x, y = (round(value * DPI) for value in grid.corner(0, 1, 0))
    width, height = (round(value * DPI) for value in grid.panel)
    mask = picture[y + 3 : y + height - 3, x + 3 : x + width - 3].reshape(-1, 3)
    assert {tuple(colour) for colour in np.unique(mask, axis=0).tolist()} == {(0, 0, 0), (255, 255, 255)}
