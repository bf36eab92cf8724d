"""The reader of IDX files: official layout in, tensors out; damaged files are named."""

import gzip
import struct

import pytest
import torch

from mtl.datasets.idx import OFFICIAL_STEMS, find_idx, read_idx
from mtl.errors import DataError

IMAGES = struct.pack(">IIII", 0x803, 2, 3, 4) + bytes(range(24))
LABELS = struct.pack(">II", 0x801, 5) + bytes([7, 0, 9, 1, 255])


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_reads_images_in_c_order(tmp_path, name):
    images = read_idx(write(tmp_path / name, IMAGES))
    assert images.dtype == torch.uint8
    assert torch.equal(images, torch.arange(24, dtype=torch.uint8).view(2, 3, 4))


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_reads_labels(tmp_path, name):
    assert read_idx(write(tmp_path / name, LABELS)).tolist() == [7, 0, 9, 1, 255]


@pytest.mark.parametrize("name", ["file", "file.gz"])
@pytest.mark.parametrize(
    ("content", "found", "expected"),
    [
        (b"\x89PNG" + bytes(40), "0x89504e47", "0x00000803"),
        (struct.pack("<IIII", 0x803, 2, 3, 4) + bytes(24), "0x03080000", "0x00000803"),  # little-endian
        (struct.pack(">II", 0xD01, 1) + bytes(4), "0x00000d01", "0x00000801"),  # floats
        (IMAGES[:-1], "found 23 bytes", "expected 24"),
        (IMAGES + b"\0", "found 25 bytes", "expected 24"),
        (LABELS[:-2], "found 3 bytes", "expected 5"),
        (IMAGES[:10], "found 10 bytes", "header of 16"),
        (b"", "found 0 bytes", "header of at least 8"),
        (struct.pack(">II", 0x801, 0), "shape (0,)", "at least one item"),
    ],
)
def test_damage_is_named(tmp_path, name, content, found, expected):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert str(path) in message
    assert found in message
    assert expected in message
    assert "official file" in message


def flip_checksum(data):
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-12], flip_checksum, lambda data: IMAGES, lambda data: data[:10] + b"\xff" * 30]
)
def test_corrupt_gzip_is_named(tmp_path, damage):
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(IMAGES)))
    with pytest.raises(DataError, match=r"file\.gz.*corrupt.*expected an intact gzip file.*official file"):
        read_idx(path)


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.*should be a readable file"):
        read_idx(tmp_path / "gone")


def test_find_prefers_earlier_folders_then_plain(tmp_path):
    late = write(tmp_path / "b" / "stem", LABELS)
    assert find_idx(tmp_path, ("a", "b"), "stem") == late
    gzipped = write(tmp_path / "a" / "stem.gz", LABELS)
    assert find_idx(tmp_path, ("a", "b"), "stem") == gzipped
    plain = write(tmp_path / "a" / "stem", LABELS)
    assert find_idx(tmp_path, ("a", "b"), "stem") == plain


def test_absent_file_says_what_goes_where(tmp_path):
    (tmp_path / "a" / "stem").mkdir(parents=True)  # a folder is no file
    with pytest.raises(DataError) as caught:
        find_idx(tmp_path, ("a", "b"), "stem")
    message = str(caught.value)
    for part in ("`stem`", "`stem.gz`", str(tmp_path / "a"), "`b`", "MTL_DATA", "dataset.download=true"):
        assert part in message
    assert all(stem in message for stem in OFFICIAL_STEMS)
