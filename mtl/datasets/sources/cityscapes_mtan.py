"""Cityscapes as MTAN and its descendants read it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl.datasets.images import check_same_size
from mtl.datasets.packed import Field
from mtl.datasets.sources.base import Sample, check_range, to_stored_labels
from mtl.datasets.sources.cityscapes import FOLDERS, CityscapesSource
from mtl.datasets.sources.nyuv2_mtan import CHANNELS, read_npy
from mtl.errors import DataError

LABEL_FOLDERS = {"label_7": 7, "label_19": 19, "label_2": 2}
"""Folder of labels -> number of classes; LibMTL's copy calls the first one `label`."""


class MtanCityscapes(CityscapesSource):
    """MTAN's `.npy` files, 128x256 or 256x512; the set of most published two-task tables is 128x256.

        <root>/{train,val}/image/<i>.npy      (H, W, 3), RGB in [0, 1]
        <root>/{train,val}/label_7/<i>.npy    (H, W), 0..6, -1 = void; also label_19, label_2; `label` for label_7
        <root>/{train,val}/depth/<i>.npy      (H, W, 1) inverse depth, 0 = invalid

    i counts from 0 without gaps; `val` is the test set. Stored: `image` with 8 bits, `label7`, `label19`, `label2` as
    far as they are there, and `inverse_depth` as it is in the files. The files are not resized again.
    """

    layout = "mtan"

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        counts = {split: len(list((root / folder / "image").glob("*.npy"))) for split, folder in FOLDERS.items()}
        empty = [split for split, count in counts.items() if not count]
        if empty:
            raise DataError(f"`{root / FOLDERS[empty[0]] / 'image'}` holds no .npy file. {self.remedy}")
        train = root / "train"
        self.labels = {folder: count for folder, count in LABEL_FOLDERS.items() if (train / folder).is_dir()}
        if "label_7" not in self.labels and (train / "label").is_dir():
            self.labels = {"label": 7, **self.labels}
        self.describe(["MTAN's files"], counts)
        first = train / "image" / "0.npy"
        found = read_npy(first, self.remedy, CHANNELS["image"]).shape[:2]
        if found != size:
            raise DataError(
                f"`{first}` has {found[0]}x{found[1]} pixels; MTAN's files are resized already and not again. "
                f"Say `size={found[0]}x{found[1]}`, or give the set that has {size[0]}x{size[1]}."
            )
        self.options = {"size": list(size)}
        self.fields = (
            Field("image", "image", (3, *size), 0, 255, "RGB"),
            *(Field(f"label{n}", "labels", size, 0, n - 1, f"{n} classes, 255 = void") for n in self.labels.values()),
            Field("inverse_depth", "values", (1, *size), 0, 1, "inverse depth as given"),
        )

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether there are images, inverse depths and a folder of labels, and no normals (that is NYUv2)."""
        train = root / "train"
        labels = any((train / folder).is_dir() for folder in ("label", *LABEL_FOLDERS))
        return labels and (train / "image").is_dir() and (train / "depth").is_dir() and not (train / "normal").is_dir()

    def files(self) -> Sequence[Path]:
        """Frame by frame."""
        return [
            self._path(split, kind, index)
            for split, count in self.counts.items()
            for index in range(count)
            for kind in ("image", "depth", *self.labels)
        ]

    def read(self, split: str, index: int) -> Sample:
        """Three files or more."""
        paths = {kind: self._path(split, kind, index) for kind in ("image", "depth", *self.labels)}
        arrays = {kind: read_npy(path, self.remedy, CHANNELS.get(kind, ((),))) for kind, path in paths.items()}
        for kind, path in paths.items():
            check_same_size(path, arrays[kind], self.size, self.remedy)
        image, depth = arrays["image"], arrays["depth"].reshape(1, *self.size).astype(np.float32)
        check_range(paths["image"], image, 0.0, 1.0, "RGB in [0, 1]", self.remedy)
        check_range(paths["depth"], depth, 0.0, 1.0, "inverse depth in [0, 1], 0 = invalid", self.remedy)
        sample: Sample = {
            "image": np.round(image.astype(np.float32) * 255).astype(np.uint8).transpose(2, 0, 1),
            "inverse_depth": np.where(depth > 0, depth, np.nan).astype(np.float16),
        }
        for folder, count in self.labels.items():
            labels = arrays[folder]
            check_range(paths[folder], labels, -1, count - 1, f"classes 0 to {count - 1}, -1 = void", self.remedy)
            sample[f"label{count}"] = to_stored_labels(labels.astype(np.int64) + 1)
        return sample

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return "Get MTAN's archive of Cityscapes again."

    def _path(self, split: str, kind: str, index: int) -> Path:
        return self.root / FOLDERS[split] / kind / f"{index}.npy"
