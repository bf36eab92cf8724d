"""From raw files to a finished run: prepare, verify, train, resume, evaluate; and what is said when that cannot be."""

import re
import tarfile
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtl.config import compose_config, prepare_main, train_main
from mtl.config.build import build_spec, config_text
from mtl.datasets.sources import LAYOUTS
from mtl.errors import DataError
from mtl.training import evaluate_run, run
from tests.miniatures import TEST, TRAIN, WRITERS


class Maps(nn.Module):
    """A dense backbone of one layer."""

    def __init__(self, input_shape, tasks=()):
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], 4, 3, padding=1)
        self.out_features = 4

    def forward(self, inputs):
        return torch.relu(self.conv(inputs))


def dense_head(in_features, num_outputs, output_size=None):
    return nn.Conv2d(in_features, num_outputs, 1)


def spec_of(data_dir, *overrides):
    cfg, names = compose_config(
        [
            "dataset=nyuv2_small",
            "dataset.size=[24,32]",
            "dataset.val_size=2",
            "dataset.batch_size=2",
            f"paths.data_dir={data_dir}",
            "trainer.device=cpu",
            "tracking.progress=none",
            "trainer.max_epochs=2",
            *overrides,
        ]
    )
    return replace(build_spec(cfg, names), backbone=Maps, head=dense_head), config_text(cfg, names)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_DATA", str(tmp_path))
    raw = WRITERS["folder"](tmp_path / "raw")
    assert prepare_main(["dataset=nyuv2", f"source={raw}", "size=24x32"]) == 0
    return tmp_path


def test_prepare_says_what_there_is_and_verify_finds_it_again(prepared, capsys):
    capsys.readouterr()
    out = prepared / "prepared" / "nyuv2-24x32"
    assert prepare_main([f"verify={out}"]) == 0
    text = capsys.readouterr().out
    assert f"train: {TRAIN} samples" in text
    assert f"test: {TEST} samples" in text
    assert "note: NYUv2 (JPEG, 8-bit depth, pseudo normals" in text
    assert "% valid" in text
    assert "\x1b" not in text
    path = out / "test.depth.bin"
    path.write_bytes(path.read_bytes()[::-1])
    assert prepare_main([f"verify={out}"]) == 1
    assert "test.depth.bin" in capsys.readouterr().err


def test_an_archive_gives_the_same_set_as_its_directory(prepared, tmp_path, capsys):
    with tarfile.open(tmp_path / "raw.tgz", "w:gz") as bundle:
        bundle.add(tmp_path / "raw", "nyuv2")
    out = tmp_path / "from_archive"
    assert prepare_main(["dataset=nyuv2", f"source={tmp_path / 'raw.tgz'}", f"out={out}", "size=24x32"]) == 0
    for path in (prepared / "prepared" / "nyuv2-24x32").glob("*.bin"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("from_archive*")) == ["from_archive"]


@pytest.mark.parametrize("dataset", LAYOUTS)
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt"])
def test_an_archive_that_leads_out_is_refused_and_leaves_nothing(dataset, name, tmp_path, capsys):
    with tarfile.open(tmp_path / "raw.tgz", "w:gz") as bundle:
        bundle.addfile(tarfile.TarInfo("fine.txt"))
        bundle.addfile(tarfile.TarInfo(name))
    out = tmp_path / "deep" / "out"
    assert prepare_main([f"dataset={dataset}", f"source={tmp_path / 'raw.tgz'}", f"out={out}"]) == 1
    error = capsys.readouterr().err
    assert f"its member `{name}` leads out of the directory" in error
    assert "Use the official archive" in error
    assert not out.exists()
    assert not out.with_name("out.unpacked").exists()
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset=nyuv2"], r"`source=` is needed"),
        (["dataset=mnist", "source=x"], r"`dataset` should be one of nyuv2"),
        (["dataset=nyuv2", "source=/nowhere"], r"`source=/nowhere` does not exist"),
        (["dataset=nyuv2", "sauce=x"], r"out of dataset, source.*Found `sauce=x`"),
        (["dataset=nyuv2", "source=x", "workers=0"], r"`workers` should be an integer"),
        (["dataset=nyuv2", "source=x", "size=12"], r"`size`"),
        (["verify=/nowhere"], r"/nowhere` holds no prepared data set"),
        (["verify=/nowhere", "out=x"], r"`verify` takes no other"),
    ],
)
def test_bad_arguments_are_one_message(arguments, message, capsys):
    assert prepare_main(arguments) == 1
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert "Traceback" not in captured.err


def test_missing_data_is_said_before_anything_is_built_with_the_command(tmp_path, capsys):
    code = train_main(["dataset=nyuv2", f"paths.data_dir={tmp_path}", f"paths.output_dir={tmp_path / 'runs'}"])
    error = capsys.readouterr().err
    assert code == 1
    assert "holds no prepared data set: manifest.json not found there. Prepare it with" in error
    assert "python scripts/prepare_data.py dataset=nyuv2 source=RAW_DATA size=288x384" in error
    assert str(tmp_path / "prepared" / "nyuv2-288x384") in error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.val_size=6", r"`val_size` should be smaller than the number of training samples, 6"),
        ("dataset.size=[12,16]", r"nyuv2-12x16` holds no prepared"),
        ("dataset.prepared=/nowhere", r"/nowhere` holds no prepared"),
    ],
)
def test_options_that_do_not_fit_the_prepared_set(prepared, tmp_path, override, message):
    spec, text = spec_of(prepared, override)
    with pytest.raises(ValueError, match=message):
        run(spec, tmp_path / "run", text)
    assert not (tmp_path / "run").exists()


def test_classes_that_the_layout_does_not_have(tmp_path, monkeypatch):
    raw = WRITERS["mtan"](tmp_path / "raw")
    assert prepare_main(["dataset=nyuv2", f"source={raw}", f"out={tmp_path / 'set'}", "size=24x32"]) == 0
    spec, _ = spec_of(tmp_path, f"dataset.prepared={tmp_path / 'set'}", "dataset.num_classes=40")
    with pytest.raises(DataError, match=r"`segmentation` needs `label40`.*layout `mtan`"):
        spec.data.check()


def test_the_validation_subset_is_fixed_and_apart(prepared):
    spec, _ = spec_of(prepared)
    splits = spec.data.load()
    assert {name: len(split) for name, split in splits.items()} == {"train": TRAIN - 2, "val": 2, "test": TEST}
    rows = splits["train"].rows.tolist(), splits["val"].rows.tolist()
    assert sorted(rows[0] + rows[1]) == list(range(TRAIN))
    other, _ = spec_of(prepared, "seed=5")
    assert other.data.load()["val"].rows.tolist() == rows[1]
    assert splits["val"].augment is None
    assert splits["test"].augment is None
    without, _ = spec_of(prepared, "dataset.val_size=0")
    assert {name: len(split) for name, split in without.data.load().items()} == {"train": TRAIN, "test": TEST}


@pytest.mark.parametrize("tasks", ["[segmentation,depth,normals,edges]", "[depth]"])
def test_a_run_cut_in_the_middle_of_an_epoch_ends_in_the_same_bits(prepared, tmp_path, tasks, monkeypatch):
    overrides = [f"dataset.tasks={tasks}", "dataset.augmentation.brightness=0.2", "trainer.checkpoint_every_steps=1"]
    spec, text = spec_of(prepared, *overrides)
    straight = run(spec, tmp_path / "straight", text)
    assert straight["status"] == "completed"
    assert straight["data_note"].startswith("NYUv2 (JPEG, 8-bit depth, pseudo normals")

    from mtl.training.trainer import Trainer

    save, saves = Trainer.save, []

    def save_and_die(self):
        save(self)
        saves.append(self.step)
        if self.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(prepared, *overrides)[0], tmp_path / "cut", text)
    monkeypatch.undo()
    resumed = run(spec_of(prepared, *overrides)[0], tmp_path / "cut", text, resume=True)
    assert str(resumed["metrics"]) == str(straight["metrics"])  # as text: NaN where a class is absent
    first, second = (torch.load(tmp_path / name / "checkpoints" / "last.pt")["model"] for name in ("straight", "cut"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    again = evaluate_run(spec_of(prepared, *overrides)[0], tmp_path / "cut")
    assert str(again["metrics"]["test"]) == str(resumed["metrics"]["test"])


def test_a_run_notices_that_its_data_changed(prepared, tmp_path):
    spec, text = spec_of(prepared)
    run(spec, tmp_path / "run", text)
    raw = WRITERS["official"](tmp_path / "official")
    assert prepare_main(["dataset=nyuv2", f"source={raw}", f"out={tmp_path / 'other'}", "size=24x32"]) == 0
    other, _ = spec_of(prepared, f"dataset.prepared={tmp_path / 'other'}")
    with pytest.raises(ValueError, match="data differ from those"):
        evaluate_run(other, tmp_path / "run")
