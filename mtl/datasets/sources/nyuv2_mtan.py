"""NYUv2 as MTAN and its descendants read it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.datasets.images import check_same_size
from mtl.datasets.sources.base import Sample, check_depth, check_labels, check_range
from mtl.datasets.sources.nyuv2 import LONGEST, NYUv2Source
from mtl.errors import DataError

KINDS = ("image", "label", "depth", "normal")
CHANNELS: Mapping[str, Sequence[tuple[int, ...]]] = {
    "image": ((3,),),
    "label": ((),),
    "depth": ((), (1,)),
    "normal": ((3,),),
}
"""Legal shapes of an array after height and width."""
FOLDERS = {"train": "train", "test": "val"}
"""Our name of a split -> theirs: their `val` is the test set."""
UNIT_TOLERANCE = 0.05


class MtanNYUv2(NYUv2Source):
    """MTAN's `.npy` files, 288x384 with 13 classes; normals are given.

        <root>/{train,val}/image/<i>.npy     (H, W, 3), RGB in [0, 1]
        <root>/{train,val}/label/<i>.npy     (H, W), 0..12, -1 = void
        <root>/{train,val}/depth/<i>.npy     (H, W, 1) metres, 0 = invalid
        <root>/{train,val}/normal/<i>.npy    (H, W, 3) unit vectors, (0, 0, 0) = invalid

    i counts from 0 without gaps; `val` is the test set. Images are stored with 8 bits.
    """

    layout = "mtan"
    pseudo = False

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        counts = {split: len(list((root / folder / "image").glob("*.npy"))) for split, folder in FOLDERS.items()}
        empty = [split for split, count in counts.items() if not count]
        if empty:
            raise DataError(f"`{root / FOLDERS[empty[0]] / 'image'}` holds no .npy file. {self.remedy}")
        self.set_up("MTAN's files", (13,), counts)
        self._frame_size: tuple[int, int] | None = None

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether there is a `normal` beside the images of `train`."""
        return (root / "train" / "image").is_dir() and (root / "train" / "normal").is_dir()

    def files(self) -> Sequence[Path]:
        """Frame by frame."""
        return [
            self._path(split, kind, index)
            for split, count in self.counts.items()
            for index in range(count)
            for kind in KINDS
        ]

    def read(self, split: str, index: int) -> Sample:
        """Four files."""
        paths = {kind: self._path(split, kind, index) for kind in KINDS}
        arrays = {kind: read_npy(path, self.remedy, CHANNELS[kind]) for kind, path in paths.items()}
        self._frame_size = self._frame_size or (arrays["image"].shape[0], arrays["image"].shape[1])
        for kind, path in paths.items():
            check_same_size(path, arrays[kind], self._frame_size, self.remedy)
        image, label, depth, normal = arrays.values()
        if depth.ndim == 3:
            depth = depth[:, :, 0]
        check_range(paths["image"], image, 0.0, 1.0, "RGB in [0, 1]", self.remedy)
        check_depth(paths["depth"], depth, LONGEST, self.remedy)
        check_range(paths["label"], label, -1, 12, "classes 0 to 12, -1 = void", self.remedy)
        check_labels(paths["label"], label + 1, 13, self.remedy)
        length = np.linalg.norm(normal.astype(np.float32), axis=-1, keepdims=True)
        unit = "lengths of unit vectors, 0 = invalid"
        check_range(paths["normal"], length, 0.0, 1 + UNIT_TOLERANCE, unit, self.remedy)
        normal = np.where(length > 0.5, normal / np.maximum(length, 0.5), np.nan)
        pixels = np.round(image.astype(np.float32) * 255).astype(np.uint8)
        return self.pack(pixels, {13: label.astype(np.int64) + 1}, depth, normal)

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return "Get MTAN's archive of NYUv2 again."

    def _path(self, split: str, kind: str, index: int) -> Path:
        return self.root / FOLDERS[split] / kind / f"{index}.npy"


def read_npy(path: Path, remedy: str, channels: Sequence[tuple[int, ...]] = ((),)) -> npt.NDArray[Any]:
    """A plain array; pickled objects are refused.

    Args:
        path: The file.
        remedy: What to do about a bad file, for messages.
        channels: Legal shapes after height and width.

    Raises:
        DataError: the file is missing, truncated, no array of numbers, or has other axes.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"`{path}` is missing. {remedy}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"`{path}` is truncated or no array of numbers: {error}. {remedy}") from error
    if array.ndim < 2 or array.shape[2:] not in channels or array.dtype.kind not in "fiu":
        legal = " or ".join(f"({', '.join(['H', 'W', *map(str, rest)])})" for rest in channels)
        raise DataError(f"`{path}` should be numbers of shape {legal}. Found {array.dtype} {array.shape}. {remedy}")
    return array
