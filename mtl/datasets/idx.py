"""The IDX format of MNIST and Fashion-MNIST, plain or gzipped."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtl.errors import DataError

OFFICIAL_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
NUM_DIMS = {0x00000801: 1, 0x00000803: 3}
"""Magic number -> number of dimensions: unsigned bytes (08), labels (01) or images (03)."""
REMEDY = "Replace it by the official file; md5 sums are in torchvision's `datasets/mnist.py`."


def read_idx(path: Path) -> Tensor:
    """The content of one IDX file of unsigned bytes.

    The format (LeCun, Cortes and Burges): a magic number, one size per dimension, all big-endian uint32, then the
    items in C order.

    Args:
        path: A plain file, or a gzipped one if the name ends in `.gz`.

    Returns:
        uint8, (N,) for labels and (N, H, W) for images, N >= 1.

    Raises:
        DataError: the file cannot be read, is no intact gzip file, has another magic number, or its body is shorter
            or longer than its header says.
    """
    data = _read_bytes(path)
    if len(data) < 4:
        raise DataError(f"`{path}` is truncated: found {len(data)} bytes, expected a header of at least 8. {REMEDY}")
    magic = int.from_bytes(data[:4], "big")
    if magic not in NUM_DIMS:
        raise DataError(
            f"`{path}` is no IDX file of labels or images: found magic number 0x{magic:08x}, expected 0x00000801 "
            f"(labels) or 0x00000803 (images). {REMEDY}"
        )
    header = 4 + 4 * NUM_DIMS[magic]
    if len(data) < header:
        raise DataError(f"`{path}` is truncated: found {len(data)} bytes, expected a header of {header}. {REMEDY}")
    shape = tuple(int.from_bytes(data[start : start + 4], "big") for start in range(4, header, 4))
    found, expected = len(data) - header, math.prod(shape)
    if found != expected:
        raise DataError(
            f"`{path}` is {'truncated' if found < expected else 'too long'}: found {found} bytes after the header, "
            f"expected {expected} for its shape {shape}. {REMEDY}"
        )
    if expected == 0:
        raise DataError(f"`{path}` is empty: found shape {shape}, expected at least one item. {REMEDY}")
    return torch.frombuffer(data, dtype=torch.uint8, offset=header).view(shape)


def find_idx(root: Path, folders: Sequence[str], stem: str) -> Path:
    """The file `stem` or `stem.gz` in the first of `folders` that has one; plain before gzipped.

    Args:
        root: Directory of all data sets, the value of MTL_DATA.
        folders: Candidates below `root`, the preferred one first.
        stem: Official name without `.gz`, e.g. `train-images-idx3-ubyte`.

    Raises:
        DataError: no candidate folder has the file.
    """
    for folder in folders:
        for name in (stem, f"{stem}.gz"):
            path = root / folder / name
            if path.is_file():
                return path
    others = ", ".join(f"`{folder}`" for folder in folders[1:])
    raise DataError(
        f"`{stem}` (or `{stem}.gz`) was not found under `{root}`, the value of MTL_DATA. "
        f"Put the official files {', '.join(OFFICIAL_STEMS)}, each plain or as .gz, into `{root / folders[0]}`"
        f"{f' (or one of {others} under `{root}`)' if others else ''}, or set `dataset.download=true` to let "
        f"torchvision fetch them."
    )


def _read_bytes(path: Path) -> bytearray:
    try:
        if path.suffix != ".gz":
            return bytearray(path.read_bytes())
        with gzip.open(path) as stream:
            return bytearray(stream.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"`{path}` is corrupt: found `{error}`, expected an intact gzip file. {REMEDY}") from error
    except OSError as error:
        raise DataError(f"`{path}` should be a readable file. Found `{error}`. {REMEDY}") from error
