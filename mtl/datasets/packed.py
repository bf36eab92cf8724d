"""The packed form of a prepared data set: one directory of raw arrays and a manifest.

    <directory>/manifest.json          what is in it, how it was made, a checksum of every array and of itself
    <directory>/<split>.<field>.bin    one C-ordered array (N, ...), little-endian, no header

Images are uint8, labels uint8 with 255 = void, measured values float16 with NaN = invalid, attributes uint8. The
manifest is written last, and the directory gets its name after that: a directory with a manifest is complete.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mtl.errors import DataError

FORMAT = 1
MANIFEST = "manifest.json"
VOID = 255
"""Stored label of a pixel without a class."""
DTYPES = {"image": np.uint8, "labels": np.uint8, "values": np.float16, "attributes": np.uint8}
INSPECT_BYTES = 1 << 24
"""Read at once while checking."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Field:
    """One array of every split.

    Attributes:
        name: Part of its file name.
        kind: `image` (3, H, W), `labels` (H, W), `values` (C, H, W) or `attributes` (A,).
        shape: Of one sample.
        low: Smallest legal valid entry.
        high: Largest legal valid entry; of labels at most 127, as batches are made of them as int8.
        info: Unit, axes and origin, for people.
    """

    name: str
    kind: Literal["image", "labels", "values", "attributes"]
    shape: tuple[int, ...]
    low: float
    high: float
    info: str

    def __post_init__(self) -> None:
        assert self.kind != "labels" or self.high <= 127, f"{self.name}: labels up to {self.high} do not fit"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored array."""
        return np.dtype(DTYPES[self.kind]).newbyteorder("<")

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class ArrayInfo:
    """What was found in one array.

    Attributes:
        sha256: Of the file.
        low: Smallest valid entry; NaN-free, 0 when nothing is valid.
        high: Largest valid entry.
        valid: Share of entries that are not void or invalid.
    """

    sha256: str
    low: float
    high: float
    valid: float


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        dataset: Its name, for example `nyuv2`.
        layout: Which form of the raw data it was made from.
        note: What has to stand beside results on it; empty for the official data.
        options: Of the preparation.
        source: `fingerprint` and `files` of the raw data.
        fields: The arrays of every split.
        counts: Split -> samples.
        arrays: Split -> field name -> what was found.
    """

    dataset: str
    layout: str
    note: str
    options: Mapping[str, Any]
    source: Mapping[str, Any]
    fields: tuple[Field, ...]
    counts: Mapping[str, int]
    arrays: Mapping[str, Mapping[str, ArrayInfo]]

    def field(self, name: str) -> Field:
        """The field called `name`."""
        return next(field for field in self.fields if field.name == name)

    def write(self, directory: Path) -> None:
        """Write manifest.json with its own checksum."""
        content = {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}
        text = json.dumps({**content, "checksum": _checksum(content)}, indent=2, allow_nan=False)
        (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def array_path(directory: Path, split: str, field: Field) -> Path:
    """Where the array of a field lies."""
    return directory / f"{split}.{field.name}.bin"


def open_array(directory: Path, split: str, field: Field, count: int, mode: Literal["r", "r+"] = "r") -> Array:
    """The array of a field as a memory map (count, *shape)."""
    array: Array = np.memmap(array_path(directory, split, field), field.dtype, mode, shape=(count, *field.shape))
    return array


def read_manifest(directory: Path, remedy: str) -> Manifest:
    """The manifest of a prepared set, checked; arrays are looked at by their size only.

    Args:
        directory: Of the prepared set.
        remedy: What to do when it is missing or damaged, for messages.

    Raises:
        DataError: there is none, it was changed, is of another format version, or an array is missing or of another
            size.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise DataError(f"`{directory}` holds no prepared data set: {MANIFEST} not found there. {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum, version = content.pop("checksum"), content.pop("format")
        intact = checksum == _checksum({"format": version, **content})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"`{path}` is damaged: {type(error).__name__}: {error}. {remedy}") from error
    if not intact:
        raise DataError(f"`{path}` was changed after it was written: its checksum does not fit. {remedy}")
    if version != FORMAT:
        raise DataError(f"`{path}` has format version {version}; this code reads version {FORMAT}. {remedy}")
    fields = tuple(Field(**{**field, "shape": tuple(field["shape"])}) for field in content.pop("fields"))
    arrays = {
        split: {name: ArrayInfo(**info) for name, info in infos.items()}
        for split, infos in content.pop("arrays").items()
    }
    manifest = Manifest(**content, fields=fields, arrays=arrays)
    for split, count in manifest.counts.items():
        for field in fields:
            check_size(array_path(directory, split, field), count * field.sample_bytes, remedy)
    return manifest


def check_size(path: Path, expected: int, remedy: str) -> None:
    """Raise DataError unless the file has `expected` bytes."""
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes"
        raise DataError(f"`{path}` {state}, expected {expected} bytes. {remedy}")


def inspect(directory: Path, split: str, field: Field, count: int) -> ArrayInfo:
    """Read an array once: checksum, range and valid share.

    Raises:
        DataError: a valid entry is outside the field's legal range.
    """
    digest, valid, low, high = hashlib.sha256(), 0, float("inf"), float("-inf")
    array = open_array(directory, split, field, count)
    step = max(1, INSPECT_BYTES // field.sample_bytes)
    for start in range(0, count, step):
        chunk = np.array(array[start : start + step])
        digest.update(chunk.tobytes())
        entries = torch.from_numpy(chunk)
        if field.kind == "values":
            keep = entries[~entries.isnan()]
        else:
            keep = entries[entries != VOID] if field.kind == "labels" else entries.flatten()
        valid += keep.numel()
        if keep.numel():
            low, high = min(low, float(keep.min())), max(high, float(keep.max()))
    if valid and not field.low <= low <= high <= field.high:
        raise DataError(
            f"`{array_path(directory, split, field)}` holds values from {low:g} to {high:g}; legal are {field.low:g} "
            f"to {field.high:g} ({field.info}). Look at the raw data, then prepare again."
        )
    total = count * int(np.prod(field.shape))
    return ArrayInfo(digest.hexdigest(), low if valid else 0.0, high if valid else 0.0, valid / max(total, 1))


def verify(directory: Path, remedy: str) -> Manifest:
    """Read a whole prepared set again and compare it with its manifest.

    Raises:
        DataError: an array differs; names it.
    """
    manifest = read_manifest(directory, remedy)
    for split, count in manifest.counts.items():
        for field in manifest.fields:
            found, stored = inspect(directory, split, field, count), manifest.arrays[split][field.name]
            if found != stored:
                raise DataError(
                    f"`{array_path(directory, split, field)}` differs from what was prepared (SHA-256 "
                    f"{found.sha256[:12]}, stored {stored.sha256[:12]}). {remedy}"
                )
    return manifest


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
