"""NYUv2's layouts: every array in its place, and every damaged file named."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl.datasets.images import resize_nearest
from mtl.datasets.prepare import prepare
from mtl.datasets.sources import find_source, parse_size
from mtl.errors import ConfigError, DataError
from tests.miniatures import SIZE, TEST, TRAIN, WRITERS, frames, labels_of

REAL = Path(os.environ.get("MTL_DATA", "data")) / "nyuv2"


def source_of(layout, root, size=SIZE):
    return find_source("nyuv2", WRITERS[layout](root / "raw"), size)


@pytest.mark.parametrize("layout", WRITERS)
def test_every_frame_comes_out_as_it_was_written(layout, tmp_path):
    source = source_of(layout, tmp_path)
    source.check()
    assert source.layout == layout
    assert source.counts == {"train": TRAIN, "test": TEST}
    for split, index, frame in [("train", 0, 0), ("train", 4, 4), ("test", 2, TRAIN + 2)]:
        sample, made = source.read(split, index), frames()[frame]
        assert {name: (a.shape, a.dtype) for name, a in sample.items()} == {
            field.name: (field.shape, field.dtype) for field in source.fields
        }
        thirteen, forty = labels_of(made["raw"])
        assert np.array_equal(sample["label13"], np.where(thirteen == 0, 255, thirteen - 1))
        if layout != "mtan":
            assert np.array_equal(sample["label40"], np.where(forty == 0, 255, forty - 1))
        error = np.abs(sample["image"].transpose(1, 2, 0).astype(int) - made["image"])
        assert error.mean() < 20 if layout == "folder" else error.max() == 0  # JPEG
        depth = sample["depth"][0].astype(np.float32)
        tolerance = 0.025 if layout == "folder" else 0.002
        valid = ~np.isnan(depth)
        assert np.abs(depth - made["depth"])[valid].max() < tolerance
        assert (~valid).sum() == (3 * SIZE[1] if layout == "mtan" else 0)


def test_given_normals_keep_their_axes_and_holes(tmp_path):
    normals = source_of("mtan", tmp_path).read("train", 0)["normals"]
    assert np.isnan(normals[:, :, :2]).all()
    assert np.allclose(normals[:, :, 2:], np.array([0.6, 0.0, -0.8])[:, None, None], atol=1e-3)


@pytest.mark.parametrize("layout", WRITERS)
def test_the_note_says_what_the_data_is(layout, tmp_path):
    note = source_of(layout, tmp_path).note
    assert ("JPEG, 8-bit depth" in note) == (layout == "folder")
    assert ("pseudo normals" in note) == (layout != "mtan")
    assert f"{TRAIN} training and {TEST} test frames" in note


def test_resizing_takes_pixels_at_their_centres(tmp_path):
    root = WRITERS["official"](tmp_path / "raw")
    small, full = (find_source("nyuv2", root, size).read("train", 1) for size in ((16, 32), SIZE))
    assert np.array_equal(small["label40"], full["label40"][1::3, 1::2])
    assert np.array_equal(small["depth"][0], resize_nearest(full["depth"][0], (16, 32)))
    assert small["image"].shape == (3, 16, 32)


def test_a_directory_inside_is_found_and_two_layouts_are_refused(tmp_path):
    WRITERS["folder"](tmp_path / "above" / "inside")
    assert find_source("nyuv2", tmp_path / "above", SIZE).root == tmp_path / "above" / "inside"
    (tmp_path / "above" / "inside" / "nyu_depth_v2_labeled.mat").touch()
    with pytest.raises(DataError, match=r"more than one layout: official, folder"):
        find_source("nyuv2", tmp_path / "above", SIZE)
    assert find_source("nyuv2", tmp_path / "above", SIZE, "folder").layout == "folder"
    with pytest.raises(ConfigError, match=r"official, mtan, folder"):
        find_source("nyuv2", tmp_path / "above", SIZE, "other")
    with pytest.raises(DataError, match=r"none of the known layouts[\s\S]*official[\s\S]*mtan"):
        find_source("nyuv2", WRITERS["folder"](tmp_path / "x") / "rgb", SIZE)


@pytest.mark.parametrize("bad", ["12", "12x", "4x400", "1x2x3", "axb"])
def test_a_bad_size_is_refused(bad):
    with pytest.raises(ConfigError, match="size"):
        parse_size(bad)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_npy(name, change):
    def do(root):
        array = np.load(root / "train" / name / "2.npy")
        change(array)
        np.save(root / "train" / name / "2.npy", array)

    return do


def edit_mat(name, value):
    def do(root):
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
            file[name][2, 5, 7] = value

    return do


def reshape_mat(name, shape):
    """Zeros of another shape in place of a data set, or nothing."""

    def do(root):
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
            kind = file[name].dtype
            del file[name]
            if shape is not None:
                file[name] = np.zeros(shape, kind)

    return do


def paint(path, array):
    Image.fromarray(array).save(path)


def set_at(value):
    def change(array):
        array[5, 5] = value

    return change


DAMAGE = {
    "truncated jpeg": ("folder", lambda root: truncate(root / "rgb/0003.jpg"), r"rgb/0003.jpg` is truncated"),
    "truncated png": ("folder", lambda root: truncate(root / "depth8/0003.png"), r"depth8/0003.png` is truncated"),
    "text for an image": (
        "folder",
        lambda root: (root / "label13/0003.png").write_text("hello"),
        r"label13/0003.png` is truncated or no image",
    ),
    "label too high": (
        "folder",
        lambda root: paint(root / "label13/0003.png", np.full(SIZE, 14, np.uint8)),
        r"label13/0003.png` holds label 14.*1 to 13",
    ),
    "wrong size": (
        "folder",
        lambda root: paint(root / "label40/0003.png", np.zeros((20, 30), np.uint8)),
        r"label40/0003.png` should have 48x64.*Found 20x30",
    ),
    "colour for a label": (
        "folder",
        lambda root: paint(root / "label40/0003.png", np.zeros((*SIZE, 3), np.uint8)),
        r"label40/0003.png` should be an image of mode L or P. Found mode RGB",
    ),
    "missing depth": (
        "folder",
        lambda root: (root / "depth8/0003.png").unlink(),
        r"depth8/0003.png` is missing\. Get",
    ),
    "two missing": (
        "folder",
        lambda root: [(root / f"rgb/000{i}.jpg").unlink() for i in (2, 4)],
        r"rgb/0002.jpg` and 1 more files are missing",
    ),
    "frame in both lists": (
        "folder",
        lambda root: (root / "test.txt").write_text("0007\n0002\n"),
        r"train.txt` and .*test.txt` share 1 frames, the first is 0002",
    ),
    "frame twice": (
        "folder",
        lambda root: (root / "test.txt").write_text("0007\n0007\n"),
        r"test.txt` should list plain stems, each once. Found `0007`",
    ),
    "path in a list": (
        "folder",
        lambda root: (root / "test.txt").write_text("../0007\n"),
        r"plain stems.*`../0007`",
    ),
    "nan depth": ("mtan", edit_npy("depth", set_at(np.nan)), r"train/depth/2.npy` holds 1 depths that are NaN"),
    "depth in millimetres": ("mtan", edit_npy("depth", set_at(4000.0)), r"2.npy` holds depths from 0 to 4000.*units"),
    "label 13 of mtan": ("mtan", edit_npy("label", set_at(13)), r"label/2.npy` holds -?\d+ to 13, expected classes 0"),
    "no unit normal": ("mtan", edit_npy("normal", set_at(3.0)), r"normal/2.npy` holds .*unit vectors"),
    "image in bytes": ("mtan", edit_npy("image", set_at(200.0)), r"image/2.npy` holds 0 to 200, expected RGB in"),
    "two components": (
        "mtan",
        lambda root: np.save(root / "train/normal/2.npy", np.zeros((*SIZE, 2))),
        r"normal/2.npy` should be numbers of shape \(H, W, 3\). Found float64 \(48, 64, 2\)",
    ),
    "grey image": (
        "mtan",
        lambda root: np.save(root / "train/image/2.npy", np.zeros(SIZE)),
        r"image/2.npy` should be numbers of shape",
    ),
    "wrong size of an array": (
        "mtan",
        lambda root: np.save(root / "train/depth/2.npy", np.ones((20, 30, 1))),
        r"depth/2.npy` should have 48x64.*Found 20x30",
    ),
    "nan in a label": ("mtan", edit_npy("label", set_at(np.nan)), r"label/2.npy` holds nan to nan, expected classes 0"),
    "truncated npy": ("mtan", lambda root: truncate(root / "val/depth/1.npy"), r"val/depth/1.npy` is truncated"),
    "missing npy": ("mtan", lambda root: (root / "val/depth/1.npy").unlink(), r"val/depth/1.npy` is missing"),
    "pickle": (
        "mtan",
        lambda root: np.save(root / "val/depth/1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True),
        r"val/depth/1.npy` is truncated or no array of numbers",
    ),
    "raw label too high": (
        "official",
        edit_mat("labels", 895),
        r"labeled.mat`, frame 3, holds label 895.*1 to 894",
    ),
    "nan in the official file": ("official", edit_mat("depths", np.nan), r"frame 3, holds 1 depths that are NaN"),
    "truncated official file": (
        "official",
        lambda root: truncate(root / "nyu_depth_v2_labeled.mat"),
        r"labeled.mat` is truncated or no HDF5 file",
    ),
    "no depth in the official file": (
        "official",
        reshape_mat("depths", None),
        r"labeled.mat` has no `depths`; it has images, labels\. Get",
    ),
    "frames of another size in the official file": (
        "official",
        reshape_mat("depths", (9, 64, 40)),
        r"labeled.mat` should have the shapes .*\(9, 64, 48\).*Found .*\(9, 64, 40\)",
    ),
    "axes as MATLAB shows them": (
        "official",
        reshape_mat("images", (48, 64, 3, 9)),
        r"labeled.mat` should have the shapes",
    ),
    "no split": ("official", lambda root: (root / "splits.mat").unlink(), r"`splits.mat` is missing beside"),
    "split beyond the file": (
        "official",
        lambda root: scipy.io.savemat(root / "splits.mat", {"trainNdxs": [[1], [2]], "testNdxs": [[99]]}),
        r"splits.mat` names frame 99, .* has 9",
    ),
    "overlapping split": (
        "official",
        lambda root: scipy.io.savemat(root / "splits.mat", {"trainNdxs": [[1], [2]], "testNdxs": [[2]]}),
        r"splits.mat` names a frame twice",
    ),
    "no mapping in the file": (
        "official",
        lambda root: scipy.io.savemat(root / "class13Mapping.mat", {"other": [[1]]}),
        r"class13Mapping.mat` has no `classMapping13.labels13`",
    ),
    "mapping beyond 40": (
        "official",
        lambda root: scipy.io.savemat(root / "classMapping40.mat", {"mapClass": [[41] * 894]}),
        r"classMapping40.mat` should map to 1..40",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_source_is_refused_by_name(name, tmp_path):
    layout, damage, message = DAMAGE[name]
    root = WRITERS[layout](tmp_path / "raw")
    damage(root)
    with pytest.raises(DataError, match=message):
        prepare(find_source("nyuv2", root, SIZE), "nyuv2", tmp_path / "out", lambda *_: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not (REAL / "meta").is_dir(), reason="needs MTL_DATA with nyuv2/")
def test_the_13_classes_of_real_frames_are_the_mapped_40():
    table = np.r_[0, scipy.io.loadmat(REAL / "meta" / "class13Mapping.mat")["classMapping13"]["labels13"][0, 0].ravel()]
    source = find_source("nyuv2", REAL, (480, 640), "folder")
    assert source.counts == {"train": 795, "test": 654}
    for split in source.counts:
        for stem in source.stems[split][::97]:
            forty, thirteen = (np.asarray(Image.open(REAL / f"label{n}" / f"{stem}.png")) for n in (40, 13))
            assert np.array_equal(table[forty], thirteen)
