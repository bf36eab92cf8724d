"""NYUv2 as its authors publish it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.datasets.sources.base import Sample, check_depth, check_labels
from mtl.datasets.sources.nyuv2 import LONGEST, NYUv2Source
from mtl.errors import DataError

LABELED = "nyu_depth_v2_labeled.mat"
SHAPES = {"images": 4, "depths": 3, "labels": 3}
"""Data set of the file -> axes. MATLAB writes them reversed: frame, (channel,) column, row."""
Array = npt.NDArray[Any]


class OfficialNYUv2(NYUv2Source):
    """The official `nyu_depth_v2_labeled.mat` with the split and the class mappings.

        <root>/nyu_depth_v2_labeled.mat    HDF5: images, depths (in-painted, metres), labels (0..894), ...
        <root>/splits.mat                  trainNdxs, testNdxs, counted from 1
        <root>/classMapping40.mat          mapClass: 894 -> 40 classes
        <root>/class13Mapping.mat          classMapping13.labels13: 40 -> 13 classes

    The three small files may lie in `<root>/meta` instead. Normals are fitted to the depth.
    """

    layout = "official"
    pseudo = True

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        self.path = root / LABELED
        self.small = {name: self._find(name) for name in ("splits.mat", "classMapping40.mat", "class13Mapping.mat")}
        splits = _load_mat(self.small["splits.mat"])
        self.frames = {
            split: _integers(self.small["splits.mat"], splits, key) - 1
            for split, key in (("train", "trainNdxs"), ("test", "testNdxs"))
        }
        self.to_40 = np.r_[
            0, _integers(self.small["classMapping40.mat"], _load_mat(self.small["classMapping40.mat"]), "mapClass")
        ]
        self.to_13 = np.r_[0, _mapping_13(self.small["class13Mapping.mat"])]
        self._check_tables()
        self.set_up("", (13, 40), {split: len(frames) for split, frames in self.frames.items()})
        self._file: Any = None

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether the big file is there."""
        return (root / LABELED).is_file()

    def files(self) -> Sequence[Path]:
        """Four."""
        return [self.path, *self.small.values()]

    def check(self) -> None:
        """Also open the big file and look at its shapes."""
        super().check()
        self._open()

    def read(self, split: str, index: int) -> Sample:
        """One frame of each data set."""
        file, frame = self._open(), int(self.frames[split][index])
        try:
            image = file["images"][frame].transpose(2, 1, 0)
            depth, raw = file["depths"][frame].T, file["labels"][frame].T
        except OSError as error:
            raise DataError(f"`{self.path}`, frame {frame + 1}, cannot be read: {error}. {self.remedy}") from error
        where = f", frame {frame + 1},"
        check_depth(self.path, depth, LONGEST, self.remedy, where)
        check_labels(self.path, raw, len(self.to_40) - 1, self.remedy, where)
        labels = self.to_40[raw]
        return self.pack(image, {13: self.to_13[labels], 40: labels}, depth, None)

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return "Get the official file again."

    def _open(self) -> Any:
        if self._file is not None:
            return self._file
        import h5py  # slow to import, needed only here

        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"`{self.path}` is truncated or no HDF5 file: {error}. {self.remedy}") from error
        missing = [name for name in SHAPES if name not in file]
        if missing:
            raise DataError(f"`{self.path}` has no `{missing[0]}`; it has {', '.join(file)}. {self.remedy}")
        shapes = {name: tuple(file[name].shape) for name in SHAPES}
        count, width, height = (shapes["images"] + (0, 0, 0))[:1] + shapes["images"][-2:]
        expected = {name: (count, *((3,) if axes == 4 else ()), width, height) for name, axes in SHAPES.items()}
        if shapes != expected:
            raise DataError(f"`{self.path}` should have the shapes {expected}. Found {shapes}. {self.remedy}")
        highest = max(int(frames.max()) for frames in self.frames.values())
        if highest >= count:
            raise DataError(
                f"`{self.small['splits.mat']}` names frame {highest + 1}, `{self.path}` has {count}. {self.remedy}"
            )
        self._file = file
        return file

    def _find(self, name: str) -> Path:
        for place in (self.root, self.root / "meta"):
            if (place / name).is_file():
                return place / name
        raise DataError(
            f"`{name}` is missing beside `{self.path}` (or in `{self.root / 'meta'}`). splits.mat is on the page of "
            "the data set; the class mappings come with its toolbox and with the 13-class labels."
        )

    def _check_tables(self) -> None:
        train, test = self.frames["train"], self.frames["test"]
        if len(np.unique(np.r_[train, test])) != len(train) + len(test) or min(train.min(), test.min()) < 0:
            raise DataError(f"`{self.small['splits.mat']}` names a frame twice, or frame 0. {self.remedy}")
        for name, table, length, classes in (
            ("classMapping40.mat", self.to_40, None, 40),
            ("class13Mapping.mat", self.to_13, 40, 13),
        ):
            if table.min() < 0 or table.max() > classes or (length is not None and len(table) != length + 1):
                raise DataError(
                    f"`{self.small[name]}` should map to 1..{classes}. Found {len(table) - 1} entries from "
                    f"{table[1:].min()} to {table.max()}. {self.remedy}"
                )


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy import io  # slow to import, needed only here

    try:
        content: dict[str, Any] = io.loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"`{path}` is no MATLAB file that can be read: {error}. Get it again.") from error
    return content


def _integers(path: Path, content: dict[str, Any], key: str) -> npt.NDArray[np.int64]:
    if key not in content or not np.asarray(content[key]).size:
        raise DataError(f"`{path}` has no `{key}`. Get the official file again.")
    return np.asarray(content[key]).ravel().astype(np.int64)


def _mapping_13(path: Path) -> npt.NDArray[np.int64]:
    content = _load_mat(path)
    try:
        table = content["classMapping13"]["labels13"][0, 0]
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"`{path}` has no `classMapping13.labels13`. Get the official file again.") from error
    return _integers(path, {"labels13": table}, "labels13")
