"""Packed sets: complete or not there, continued after a kill, and checked against every change."""

import json
import os

import numpy as np
import pytest
import torch

from mtl.datasets import packed
from mtl.datasets.packed import Field, array_path, read_manifest, verify
from mtl.datasets.packed_split import PackedSplit, Target, boundaries, convert
from mtl.datasets.prepare import CHUNK, prepare
from mtl.datasets.sources import Source
from mtl.errors import DataError

H, W = 6, 8
FIELDS = (
    Field("image", "image", (3, H, W), 0, 255, "RGB"),
    Field("labels", "labels", (H, W), 0, 4, "5 classes"),
    Field("depth", "values", (1, H, W), 0, 20, "metres"),
    Field("normals", "values", (3, H, W), -1.01, 1.01, "unit vectors"),
    Field("bits", "attributes", (3,), 0, 1, "attributes"),
)
TARGETS = {
    "seg": Target("labels", "labels"),
    "mask": Target("labels", "labels", classes=(0, 1, 1, -1, 0)),
    "edge": Target("labels", "edges"),
    "depth": Target("depth", "values"),
    "normals": Target("normals", "directions"),
    "smiles": Target("bits", "attribute", column=2),
}


class Made(Source):
    """Samples out of a seed; `fail_at` raises there, `bad` stores one value out of range."""

    layout = "made"
    note = "made up"
    fields = FIELDS

    def __init__(self, root, count=CHUNK * 2 + 5, fail_at=None, bad=None, options=None):
        self.root, self.fail_at, self.bad = root, fail_at, bad
        self.counts = {"train": count, "test": 7}
        self.options = options or {"size": [H, W]}
        self.reads = []
        (root / "raw.txt").write_text("raw")

    @classmethod
    def matches(cls, root):
        return True

    def files(self):
        return [self.root / "raw.txt"]

    def read(self, split, index):
        self.reads.append((split, index))
        if (split, index) == self.fail_at:
            raise KeyboardInterrupt
        stream = np.random.RandomState(1000 * (split == "test") + index)
        depth = stream.uniform(1, 9, (1, H, W)).astype(np.float16)
        depth[stream.rand(1, H, W) < 0.2] = np.nan
        if self.bad == (split, index):
            depth[0, 0, 0] = 25
        normals = stream.normal(size=(3, H, W))
        normals /= np.linalg.norm(normals, axis=0)
        normals[:, 0, 0] = np.nan
        labels = stream.randint(0, 6, (H, W))
        return {
            "image": stream.randint(0, 256, (3, H, W)).astype(np.uint8),
            "labels": np.where(labels == 5, 255, labels).astype(np.uint8),
            "depth": depth,
            "normals": normals.astype(np.float16),
            "bits": stream.randint(0, 2, 3).astype(np.uint8),
        }


def quiet(*_):
    pass


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def made(tmp_path):
    prepare(Made(tmp_path), "made", tmp_path / "out", quiet)
    return tmp_path / "out"


def split_of(directory, targets=TARGETS, **options):
    manifest = read_manifest(directory, "")
    rows = options.pop("rows", torch.arange(manifest.counts["train"]))
    return PackedSplit(directory, manifest, "train", rows, targets, **options)


def test_a_killed_preparation_continues_to_the_same_bytes(made, tmp_path):
    out = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        prepare(Made(tmp_path, fail_at=("train", CHUNK + 3)), "made", out, quiet)
    assert not out.exists()
    source = Made(tmp_path)
    prepare(source, "made", out, quiet, workers=2)
    assert ("train", 0) not in source.reads
    assert ("train", CHUNK) in source.reads
    assert content(out) == content(made)
    assert sorted(content(out)) == sorted(
        ["manifest.json", *(f"{s}.{f.name}.bin" for s in ("train", "test") for f in FIELDS)]
    )
    assert not out.with_name("again.partial").exists()


def test_another_plan_starts_anew(made, tmp_path):
    out = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        prepare(Made(tmp_path, fail_at=("train", CHUNK + 3)), "made", out, quiet)
    source = Made(tmp_path, options={"size": [H, W], "other": 1})
    prepare(source, "made", out, quiet)
    assert ("train", 0) in source.reads


def test_a_finished_set_is_kept_and_others_are_refused(made, tmp_path):
    source = Made(tmp_path)
    before = content(made)
    prepare(source, "made", made, quiet)
    assert not source.reads
    assert content(made) == before
    with pytest.raises(DataError, match=r"was prepared with `options` = .*Give another `out=`"):
        prepare(Made(tmp_path, options={"size": [1, 1]}), "made", made, quiet)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"exists and is no prepared data set"):
        prepare(Made(tmp_path), "made", tmp_path / "mine", quiet)


def test_two_preparations_of_one_set_exclude_each_other(tmp_path):
    class Inner(Made):
        def read(self, split, index):
            if index == 0:
                prepare(Made(tmp_path), "made", tmp_path / "out", quiet)
            return super().read(split, index)

    with pytest.raises(DataError, match="Another process is preparing"):
        prepare(Inner(tmp_path), "made", tmp_path / "out", quiet)


def test_a_value_out_of_range_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train.depth.bin` holds values from .* to 25; legal are 0 to 20 \(metres\)"):
        prepare(Made(tmp_path, bad=("train", 3)), "made", tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()


def test_manifest_holds_what_is_there(made, tmp_path):
    manifest = verify(made, "")
    info, source = manifest.arrays["train"], Made(tmp_path)
    depth = np.stack([source.read("train", index)["depth"] for index in range(source.counts["train"])])
    labels = np.stack([source.read("train", index)["labels"] for index in range(source.counts["train"])])
    assert info["depth"].valid == pytest.approx((~np.isnan(depth)).mean())
    assert (info["depth"].low, info["depth"].high) == (np.nanmin(depth), np.nanmax(depth))
    assert info["labels"].valid == pytest.approx((labels != 255).mean())
    assert (info["labels"].low, info["labels"].high) == (0, 4)


def test_inspection_does_not_depend_on_its_chunks(made, monkeypatch):
    manifest = read_manifest(made, "")
    monkeypatch.setattr(packed, "INSPECT_BYTES", 100)
    for field in FIELDS:
        assert packed.inspect(made, "train", field, manifest.counts["train"]) == manifest.arrays["train"][field.name]


def flip_a_bit(directory):
    path = array_path(directory, "test", FIELDS[2])
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)


def edit_manifest(change):
    def do(directory):
        stored = json.loads((directory / "manifest.json").read_text())
        change(stored)
        (directory / "manifest.json").write_text(json.dumps(stored))

    return do


DAMAGE = {
    "one bit": (flip_a_bit, r"test.depth.bin` differs from what was prepared"),
    "shorter": (lambda d: os.truncate(array_path(d, "test", FIELDS[0]), 100), r"test.image.bin` has 100 bytes, exp"),
    "gone": (lambda d: array_path(d, "test", FIELDS[0]).unlink(), r"test.image.bin` is missing"),
    "note changed": (edit_manifest(lambda m: m.update(note="official")), r"manifest.json` was changed after"),
    "count changed": (edit_manifest(lambda m: m["counts"].update(train=3)), r"manifest.json` was changed after"),
    "half a manifest": (lambda d: os.truncate(d / "manifest.json", 200), r"manifest.json` is damaged"),
    "no manifest": (lambda d: (d / "manifest.json").unlink(), r"holds no prepared data set"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_verify_finds_every_change(made, name):
    damage, message = DAMAGE[name]
    damage(made)
    with pytest.raises(DataError, match=message):
        verify(made, "")


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "FORMAT", 7)
    prepare(Made(tmp_path), "made", tmp_path / "out", quiet)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"format version 7; this code reads version 1"):
        read_manifest(tmp_path / "out", "")


def test_batches_hold_the_samples_of_the_source(made, tmp_path):
    source, rows = Made(tmp_path), torch.tensor([40, 3, 68, 3])
    batch = split_of(made).gather(rows)
    for position, row in enumerate(rows.tolist()):
        sample = source.read("train", row)
        assert np.array_equal(batch.inputs[position].numpy(), sample["image"].astype(np.float32) / 255)
        labels = sample["labels"].astype(int)
        assert np.array_equal(batch.targets["seg"][position].numpy(), np.where(labels == 255, -1, labels))
        table = np.r_[[0, 1, 1, -1, 0], np.full(251, -1)]
        assert np.array_equal(batch.targets["mask"][position].numpy(), table[labels])
        values, valid = batch.targets["depth"][position].numpy()
        assert np.array_equal(valid, ~np.isnan(sample["depth"][0]))
        assert np.array_equal(values, np.nan_to_num(sample["depth"][0].astype(np.float32)))
        assert batch.targets["smiles"][position] == sample["bits"][2]
    normals = batch.targets["normals"]
    assert torch.equal(normals[:, :, 0, 0], torch.zeros(4, 4))
    assert torch.allclose(normals[:, :3].norm(dim=1), normals[:, 3], atol=1e-6)
    assert {name: (t.dtype, t.shape[1:]) for name, t in batch.targets.items()} == {
        "seg": (torch.int64, (H, W)),
        "mask": (torch.int64, (H, W)),
        "edge": (torch.int64, (H, W)),
        "depth": (torch.float32, (2, H, W)),
        "normals": (torch.float32, (4, H, W)),
        "smiles": (torch.int64, ()),
    }


def test_ranges_subsets_and_normalisation(made):
    whole = split_of(made)
    rows = torch.tensor([5, 9, 30])
    subset = split_of(made, rows=rows, mean=(0.1, 0.2, 0.3), std=(2.0, 1.0, 0.5))
    assert len(subset) == 3
    first, second = subset.gather(slice(1, 3)), whole.gather(rows[1:])
    assert torch.equal(first.targets["seg"], second.targets["seg"])
    shifted = (second.inputs - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([2, 1, 0.5]).view(3, 1, 1)
    assert torch.allclose(first.inputs, shifted)
    assert list(subset.select(["depth"]).gather(slice(0, 1)).targets) == ["depth"]


def test_the_fingerprint_tells_what_a_run_saw(made, tmp_path):
    prints = {
        "all": split_of(made),
        "fewer tasks": split_of(made).select(["depth"]),
        "fewer rows": split_of(made, rows=torch.arange(5)),
        "other order": split_of(made, rows=torch.arange(CHUNK * 2 + 5).flip(0)),
        "normalised": split_of(made, mean=(0.5, 0.5, 0.5)),
        "other classes": split_of(made, {**TARGETS, "mask": Target("labels", "labels", classes=(0, 1))}),
    }
    assert len({split.fingerprint() for split in prints.values()}) == len(prints)
    prepare(Made(tmp_path), "made", tmp_path / "copy", quiet)
    assert split_of(tmp_path / "copy").fingerprint() == split_of(made).fingerprint()


def test_boundaries_against_a_slow_twin():
    labels = torch.randint(-1, 3, (4, 7, 9), generator=torch.Generator().manual_seed(5))
    expected = torch.zeros_like(labels)
    for b, i, j in np.ndindex(*labels.shape):
        own = labels[b, i, j]
        around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
        others = [labels[b, y, x] for y, x in around if 0 <= y < 7 and 0 <= x < 9]
        expected[b, i, j] = -1 if own == -1 else any(other not in (-1, own) for other in others)
    assert torch.equal(boundaries(labels), expected)
    stored = torch.where(labels == -1, 255, labels).to(torch.uint8)
    assert torch.equal(convert(stored, Target("labels", "edges")), expected)


@pytest.mark.parametrize(("kind", "channels"), [("values", 1), ("values", 2), ("directions", 3)])
def test_values_against_a_slow_twin(kind, channels):
    """NaN of either sign, in one channel or all; zeros and the longest float16 are values."""
    stream = np.random.RandomState(7)
    stored = stream.normal(size=(3, channels, H, W)).astype(np.float16)
    stored[0, :, 1, 2], stored[1, 0, 3, 4] = np.nan, np.copysign(np.nan, -1)
    stored[2, :, 0, 0] = 0
    stored[2, :, 0, 1] = 65504 if kind == "values" else 6e-8
    found = convert(torch.from_numpy(stored), Target("depth", kind)).numpy()
    assert found.shape == (3, channels + 1, H, W)
    for b, i, j in np.ndindex(3, H, W):
        entry = stored[b, :, i, j].astype(np.float64)
        valid = not np.isnan(entry).any()
        length = np.linalg.norm(entry) if kind == "directions" and valid and entry.any() else 1
        expected = [*(entry / length if valid else 0 * stored[b, :, 0, 0]), valid]
        assert found[b, :, i, j] == pytest.approx(np.array(expected, np.float64), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", ["labels", "edges"])
@pytest.mark.parametrize("classes", [None, tuple(range(127, -1, -1))])
@pytest.mark.parametrize("void", [-1, 0])
def test_every_label_against_a_table(kind, classes, void):
    stored = torch.cat([torch.arange(128), torch.tensor([255] * 4)]).to(torch.uint8)
    stored = stored[torch.randperm(132, generator=torch.Generator().manual_seed(0))].view(1, 11, 12)
    table = dict(enumerate(classes or range(128))) | {255: void}
    expected = torch.tensor([table[label] for label in stored.flatten().tolist()]).view_as(stored)
    found = convert(stored, Target("labels", kind, classes=classes, void=void))
    assert found.dtype == torch.int64
    assert torch.equal(found, expected if kind == "labels" else boundaries(expected))
