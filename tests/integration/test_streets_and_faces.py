"""Cityscapes and CelebA, from miniatures in their official layouts to a trained, evaluated and tabulated network."""

import json
import math
import re

import pytest

from mtl.config import evaluate_main, prepare_main, train_main
from mtl.tracking import read_events
from scripts.compare import write_comparison
from tests import miniature_faces, miniature_streets

EPOCHS = 6
UNET = ["backbone=unet_small", "backbone.filters=[4,8,8]", "heads=conv"]
CNN = ["backbone=celeba_cnn_small", "backbone.width=4"]
SMALL_STREETS = ["dataset.size=[32,64]", "dataset.val_size=3", "dataset.batch_size=3", "dataset.drop_last=false"]
SEGMENTATION = {"miou", "pix_acc"}
MASK = frozenset(("iou", "pix_acc"))
ATTRIBUTE = frozenset(("f1", "precision", "recall", "accuracy", "error"))
ERRORS = {"abs_err", "rel_err"}

CASES = {
    "cityscapes from mtan": (
        "mtan",
        ["dataset=cityscapes", "dataset.size=[64,128]", *SMALL_STREETS[1:], *UNET],
        {"segmentation": SEGMENTATION, "inverse_depth": ERRORS},
    ),
    "cityscapes": (
        "official",
        ["dataset=cityscapes", *SMALL_STREETS, *UNET],
        {"segmentation": SEGMENTATION, "inverse_depth": ERRORS},
    ),
    "cityscapes_masks": (
        "official",
        ["dataset=cityscapes_masks", "strategy=igd_per_task", *SMALL_STREETS, *UNET],
        dict.fromkeys(("flat", "construction", "object", "nature", "sky", "human", "vehicle"), MASK),
    ),
    "cityscapes_scene": (
        "official",
        ["dataset=cityscapes_scene", "strategy=mgda_ub", *SMALL_STREETS, *UNET],
        {"segmentation": SEGMENTATION, "instance": {"abs_err"}, "disparity": ERRORS},
    ),
    "celeba": (
        "faces",
        ["dataset=celeba", "dataset.size=[32,32]", "dataset.batch_size=12", *CNN],
        dict.fromkeys(miniature_faces.NAMES, ATTRIBUTE),
    ),
    "celeba as isl-org": (
        "faces",
        [
            "dataset=celeba",
            "dataset.tasks=[Bald,5_o_Clock_Shadow]",
            "dataset.outputs=2",
            "dataset.normalisation=isl_org",
            "dataset.primary_metric=error",
            "dataset.size=[32,32]",
            "dataset.batch_size=12",
            *CNN,
        ],
        dict.fromkeys(("Bald", "5_o_Clock_Shadow"), ATTRIBUTE),
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Layout -> prepared directory."""
    root = tmp_path_factory.mktemp("data")
    sources = {
        "official": ("cityscapes", miniature_streets.write_official(root / "raw" / "official"), "32x64"),
        "mtan": ("cityscapes", miniature_streets.write_mtan(root / "raw" / "mtan"), "64x128"),
        "faces": ("celeba", miniature_faces.write(root / "raw" / "faces"), "32x32"),
    }
    for name, (dataset, raw, size) in sources.items():
        arguments = [f"dataset={dataset}", f"source={raw}", f"out={root / name}", f"size={size}", "allow_partial=true"]
        assert prepare_main(arguments) == 0
        assert prepare_main([f"verify={root / name}"]) == 0
    return {name: root / name for name in sources}


def fall(run):
    """Loss in the last epoch over loss in the first, averaged over tasks."""
    steps = [event for event in read_events(run / "metrics.jsonl") if event["event"] == "step"]
    ratios = []
    for task in steps[0]["losses"]:
        losses = [step["losses"][task] for step in steps]
        ratios.append(sum(losses[-len(losses) // EPOCHS :]) / sum(losses[: len(losses) // EPOCHS]))
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize("name", CASES)
def test_train_and_evaluate(name, prepared, tmp_path, capsys):
    layout, overrides, expected = CASES[name]
    run = tmp_path / "run"
    settings = [
        f"trainer.max_epochs={EPOCHS}",
        "trainer.device=cpu",
        "tracking.progress=none",
        "tracking.log_every_steps=1",
    ]
    where = [f"dataset.prepared={prepared[layout]}", f"hydra.run.dir={run}"]
    assert train_main([*overrides, *where, *settings, "optimizer.lr=0.01"]) == 0, capsys.readouterr().err
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert re.match(r"(Cityscapes|CelebA) \(.*(12|48) training.*\)", summary["data_note"])
    assert {task: set(values) for task, values in summary["metrics"]["test"].items()} == expected
    for values in summary["metrics"]["test"].values():
        assert all(value is not None and math.isfinite(value) for value in values.values())
    assert fall(run) < 0.9
    capsys.readouterr()
    assert evaluate_main([f"run={run}"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"]["test"] == summary["metrics"]["test"]


def test_the_table_says_what_the_data_is(prepared, tmp_path):
    runs = tmp_path / "runs"
    for strategy in ("uniform", "pcgrad"):
        _, overrides, _ = CASES["cityscapes"]
        where = [f"dataset.prepared={prepared['official']}", f"hydra.run.dir={runs / strategy}", f"strategy={strategy}"]
        assert train_main([*overrides, *where, "trainer.max_steps=2", "tracking.progress=none"]) == 0
    write_comparison(runs, tmp_path / "out", allow_mixed=False)
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Data: Cityscapes (raw frames of 64x128, 12 training and 4 test frames)" in text
    assert "pcgrad" in text


@pytest.mark.parametrize(
    ("dataset", "raw", "extra", "message"),
    [
        ("cityscapes", "official", [], r"12 train, 4 test samples; the official data have 2975 train, 500 test"),
        ("cityscapes", "mtan", ["size=64x128"], r"12 train, 4 test samples; .*`allow_partial=true`"),
        ("celeba", "faces", [], r"162770 train, 19867 val, 19962 test"),
        ("celeba", "faces", ["allow_partial=yes"], r"`allow_partial` should be one of true, false"),
        ("celeba", "faces", ["allow_partial=true", "resize=cubic"], r"`resize` should be one of bilinear, nearest"),
        ("cityscapes", "official", ["resize=nearest"], r"`resize` is no option of cityscapes, layout official"),
        ("celeba", "official", [], r"none of the known layouts of celeba:\n  official"),
    ],
)
def test_what_is_not_asked_for_is_refused(dataset, raw, extra, message, prepared, tmp_path, capsys):
    source = prepared["faces"].parent / "raw" / raw
    assert prepare_main([f"dataset={dataset}", f"source={source}", f"out={tmp_path / 'out'}", *extra]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.glob("out*"))
