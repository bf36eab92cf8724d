"""Cityscapes' layouts: official ids, disparity, offsets; every damaged file named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl.datasets import Cityscapes, Loader
from mtl.datasets.augment import Augmentation
from mtl.datasets.packed_split import convert
from mtl.datasets.prepare import prepare
from mtl.datasets.sources import find_source
from mtl.datasets.sources.cityscapes import instance_offsets, lookup_tables
from mtl.errors import ConfigError, DataError
from tests.miniature_streets import FRAME, TEST, TRAIN, WRITERS, frames, write_mtan, write_official

V = 255
TRAIN_IDS = [*[V] * 7, 0, 1, V, V, 2, 3, 4, V, V, V, 5, V, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, V, V, 16, 17, 18]
CATEGORY_IDS = [*[V] * 7, *[0] * 4, *[1] * 6, *[2] * 4, *[3] * 2, 4, *[5] * 2, *[6] * 8]
MASKS = {
    "flat": [7, 8],
    "construction": [11, 12, 13],
    "object": [17, 19, 20],
    "nature": [21, 22],
    "sky": [23],
    "human": [24, 25],
    "vehicle": [26, 27, 28, 31, 32, 33],
}
"""Label ids of the released code of Pascal et al."""


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path / "raw")


def quiet(*_):
    pass


def source_of(root, size=FRAME, **options):
    return find_source("cityscapes", root, size, **options)


def place(root, tree, end, split="train", city="ulm"):
    return sorted((root / tree / split / city).glob(f"*_{end}.png"))[0]


def test_every_label_id_has_its_official_class_and_category():
    train, category = lookup_tables()
    assert train[:34].tolist() == TRAIN_IDS
    assert category[:34].tolist() == CATEGORY_IDS
    assert (train[34:] == V).all()
    assert (category[34:] == V).all()


@pytest.mark.parametrize("void", ["negative", "ignore"])
def test_masks_are_those_of_the_released_code(void, tmp_path):
    data = Cityscapes(tmp_path, tasks=None, mask_void=void)
    stored = torch.tensor(TRAIN_IDS, dtype=torch.uint8).view(1, 1, -1)
    for name, labels in MASKS.items():
        mask = convert(stored, data.targets()[name]).flatten().tolist()
        outside = 0 if void == "negative" else -1
        expected = [int(label in labels) if TRAIN_IDS[label] != V else outside for label in range(34)]
        assert mask == expected, name


def test_disparity_is_decoded_and_zero_is_invalid(official):
    path = place(official, "disparity", "disparity", city="aachen")
    raw = np.array(Image.open(path))
    raw[0, 10:15] = [0, 1, 2, 257, 32257]
    Image.fromarray(raw).save(path)
    sample = source_of(official).read("train", 0)
    assert sample["disparity"][0, 0, 10:15].tolist() == pytest.approx([np.nan, 0, 1 / 256, 1, 126], nan_ok=True)
    inverse = sample["inverse_depth"][0, 0, 10:15].astype(float)
    assert inverse == pytest.approx([np.nan, 1 / 65535, 2 / 65535, 257 / 65535, 0.4922], rel=3e-3, nan_ok=True)
    target = convert(
        torch.from_numpy(sample["disparity"][None]), Cityscapes("x", tasks=["disparity"]).targets()["disparity"]
    )
    assert target[0, :, 0, 10:12].tolist() == [[0, 0], [0, 1]]


def test_offsets_lead_to_the_centroid():
    instances = np.zeros((6, 8), np.int64)
    instances[1:4, 1:4] = 26001  # centroid (2, 2)
    instances[5, 0:2] = 26002  # centroid (5, 0.5)
    instances[0, 7] = instances[2, 5] = 24000  # number 0 counts; centroid (1, 6)
    instances[4, 4] = 26  # a group
    instances[4, 5] = 29001  # a caravan is not evaluated
    instances[4, 6] = 7  # no instances
    offsets = instance_offsets(instances)
    assert offsets[1, 1].tolist() == [1, 1]
    assert offsets[3, 2].tolist() == [-1, 0]
    assert offsets[5, 0].tolist() == [0, 0.5]
    assert offsets[0, 7].tolist() == [1, -1]
    assert offsets[2, 5].tolist() == [-1, 1]
    assert np.isfinite(offsets).all(-1).sum() == 9 + 2 + 2


def test_offsets_are_of_the_raw_frame_whatever_the_size(official):
    full, small = (source_of(official, size).read("train", 3)["instance"] for size in (FRAME, (16, 32)))
    assert np.array_equal(small, full[:, 2::4, 2::4], equal_nan=True)
    assert np.isfinite(full).any()


def test_every_frame_comes_out_as_it_was_written(official):
    source = source_of(official)
    assert source.counts == {"train": TRAIN, "test": TEST}
    for split, folder in (("train", "train"), ("test", "val")):
        for index, (_, _, frame) in enumerate(frames()[folder]):
            sample = source.read(split, index)
            assert np.array_equal(sample["image"], frame["image"].transpose(2, 0, 1))
            assert np.array_equal(sample["label19"], np.array(TRAIN_IDS)[frame["labels"]])
            assert np.array_equal(sample["label7"], np.array(CATEGORY_IDS)[frame["labels"]])
            assert np.array_equal(np.isnan(sample["disparity"][0]), frame["disparity"] == 0)


def test_both_layouts_agree_on_the_same_frames(official, tmp_path):
    ours, theirs = source_of(official), source_of(write_mtan(tmp_path / "mtan"))
    for split, count in ours.counts.items():
        for index in range(count):
            first, second = ours.read(split, index), theirs.read(split, index)
            for name in ("image", "label7", "label19", "inverse_depth"):
                assert np.array_equal(first[name], second[name], equal_nan=name == "inverse_depth"), name


def test_order_does_not_depend_on_the_file_system(official, monkeypatch):
    before = [path.relative_to(official) for path in source_of(official).files()]
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: reversed(list(glob(self, pattern))))
    source = source_of(official)
    assert [path.relative_to(official) for path in source.files()] == before
    cities = [city for city, _ in source.stems["train"]]
    assert cities == sorted(cities)


def test_without_disparity_the_rest_is_prepared(official, tmp_path):
    shutil.rmtree(official / "disparity")
    prepare(source_of(official), "cityscapes", tmp_path / "out", quiet)
    Cityscapes("x", tmp_path / "out", FRAME, list(MASKS), val_size=2).check()
    with pytest.raises(DataError, match=r"Task `disparity` needs `disparity`, which .* does not have"):
        Cityscapes("x", tmp_path / "out", FRAME, ["disparity"], val_size=2).check()


@pytest.mark.parametrize("layout", WRITERS)
def test_a_part_has_to_be_asked_for_and_is_noted(layout, tmp_path):
    source = source_of(WRITERS[layout](tmp_path / "raw"))
    with pytest.raises(DataError, match=r"12 train, 4 test samples; .* 2975 train, 500 test.*`allow_partial=true`"):
        source.check_counts(allow_partial=False)
    source.check_counts(allow_partial=True)
    assert "12 training and 4 test frames" in source.note
    assert ("MTAN's files" in source.note) == (layout == "mtan")
    assert ("raw frames of 64x128" in source.note) == (layout == "official")


@pytest.mark.parametrize(
    ("labels", "fields"),
    [(("label",), ["label7"]), (("label", "label_7"), ["label7"]), (("label_19", "label_2"), ["label19", "label2"])],
)
def test_names_of_the_label_folder(labels, fields, tmp_path):
    source = source_of(write_mtan(tmp_path / "raw", labels))
    assert [field.name for field in source.fields] == ["image", *fields, "inverse_depth"]
    assert set(source.read("train", 0)) == {"image", *fields, "inverse_depth"}


def test_mtan_files_are_not_resized_again(tmp_path):
    with pytest.raises(DataError, match=r"0.npy` has 64x128 pixels.*`size=64x128`"):
        source_of(write_mtan(tmp_path / "raw"), (128, 256))


def test_zoom_and_flip_change_values_as_they_should(official, tmp_path):
    """Disparities and offsets grow with the zoom; a flip changes the sign of x offsets; labels stay."""
    prepare(source_of(official), "cityscapes", tmp_path / "out", quiet)
    tasks = ["segmentation", "sky", "instance", "disparity", "inverse_depth"]

    def batch(zoom, flip):
        data = Cityscapes(
            "x", tmp_path / "out", FRAME, tasks, val_size=2, augmentation=Augmentation((zoom,), flip=flip)
        )
        return next(Loader(data.load()["train"], 4, shuffle=False, drop_last=False).batches(0)).targets

    def valid(target, channel):
        return target[:, channel][target[:, -1] > 0.5]

    plain, zoomed, flipped = batch(1.0, 0.0), batch(1.5, 0.0), batch(1.0, 1.0)
    for task, channel in (("disparity", 0), ("inverse_depth", 0), ("instance", 0), ("instance", 1)):
        before, after = valid(plain[task], channel), valid(zoomed[task], channel)
        assert len(after) > 100
        assert torch.isin(after, before * 1.5).all(), task
        sign = -1 if (task, channel) == ("instance", 1) else 1
        assert torch.equal(flipped[task][:, channel], sign * plain[task][:, channel].flip(-1)), task
    assert set(zoomed["segmentation"].unique().tolist()) <= set(plain["segmentation"].unique().tolist())
    assert torch.equal(zoomed["sky"] == 1, zoomed["segmentation"] == 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 20}, "19, 7 or 2"),
        ({"mask_void": "zero"}, "negative, ignore"),
        ({"regression_loss": "huber"}, "l1, l2"),
        ({"rel_err_floor": -1.0}, "rel_err_floor"),
        ({"tasks": ["depth"]}, "segmentation, flat, .*inverse_depth"),
        ({"normalisation": "bgr"}, "none, imagenet, isl_org"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Cityscapes("x", **options)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def paint(tree, end, array):
    return lambda root: Image.fromarray(array).save(place(root, tree, end))


def edit(kind, value):
    def do(root):
        path = root / "train" / kind / "2.npy"
        array = np.load(path)
        array[5, 5] = value
        np.save(path, array)

    return do


TREES = [
    ("leftImg8bit", "leftImg8bit"),
    ("gtFine", "gtFine_labelIds"),
    ("gtFine", "gtFine_instanceIds"),
    ("disparity", "disparity"),
]
DAMAGE = {
    **{
        f"missing {end}": (
            "official",
            lambda root, tree=tree, end=end: place(root, tree, end).unlink(),
            rf"ulm/ulm_000002_000019_{end}.png` is missing\. Get the archive.*allow_partial",
        )
        for tree, end in TREES
    },
    "no frame": (
        "official",
        lambda root: [path.unlink() for path in root.glob("*/val/*/*.png")],
        r"leftImg8bit/val` holds no frame",
    ),
    **{
        f"truncated {end}": (
            "official",
            lambda root, tree=tree, end=end: truncate(place(root, tree, end)),
            rf"ulm_000002_000019_{end}.png` is truncated.*Get the archive",
        )
        for tree, end in TREES
    },
    "label above the classes": (
        "official",
        paint("gtFine", "gtFine_labelIds", np.full(FRAME, 34, np.uint8)),
        r"labelIds.png` holds 34; ids should be 0 to 33",
    ),
    "instance above the classes": (
        "official",
        paint("gtFine", "gtFine_instanceIds", np.full(FRAME, 34001, np.uint16)),
        r"instanceIds.png` holds 34001; ids should be 0 to 33, or such an id \* 1000",
    ),
    "wrong size": (
        "official",
        paint("disparity", "disparity", np.zeros((32, 64), np.uint16)),
        r"disparity.png` should have 64x128 pixels.*Found 32x64",
    ),
    "disparity with 8 bits": (
        "official",
        paint("disparity", "disparity", np.zeros(FRAME, np.uint8)),
        r"disparity.png` should be an image of mode I;16.*Found mode L",
    ),
    "nan depth": ("mtan", edit("depth", np.nan), r"train/depth/2.npy` holds nan to nan, expected inverse depth"),
    "depth in metres": ("mtan", edit("depth", 40.0), r"train/depth/2.npy` holds 0 to 40, expected inverse depth"),
    "label above 7": ("mtan", edit("label_7", 7), r"label_7/2.npy` holds -1 to 7, expected classes 0 to 6"),
    "image in bytes": ("mtan", edit("image", 200), r"image/2.npy` holds .* to 200, expected RGB"),
    "truncated npy": ("mtan", lambda root: truncate(root / "val/depth/1.npy"), r"val/depth/1.npy` is truncated.*Get"),
    "wrong size of an array": (
        "mtan",
        lambda root: np.save(root / "train/label_7/2.npy", np.zeros((32, 64))),
        r"label_7/2.npy` should have 64x128 pixels.*Found 32x64",
    ),
    "gap": ("mtan", lambda root: (root / "train/image/3.npy").unlink(), r"train/image/3.npy` is missing"),
    "missing pair": ("mtan", lambda root: (root / "val/depth/1.npy").unlink(), r"val/depth/1.npy` is missing"),
    "no labels of the test set": (
        "mtan",
        lambda root: [path.unlink() for path in (root / "val/label_19").iterdir()],
        r"val/label_19/0.npy` and 3 more files are missing",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_source_is_refused_by_name(name, tmp_path):
    layout, damage, message = DAMAGE[name]
    root = WRITERS[layout](tmp_path / "raw")
    damage(root)
    with pytest.raises(DataError, match=message):
        prepare(source_of(root), "cityscapes", tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
