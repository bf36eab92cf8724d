"""Cityscapes as the official archives unpack."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl.datasets.images import RGB, check_same_size, read_image, resize_image, resize_nearest
from mtl.datasets.packed import Field
from mtl.datasets.sources.base import Sample
from mtl.datasets.sources.cityscapes import (
    FOLDERS,
    HIGHEST_DISPARITY,
    HIGHEST_ID,
    OFFICIAL_FRAME,
    CityscapesSource,
    instance_offsets,
    lookup_tables,
)
from mtl.errors import DataError

FILES = {
    "image": ("leftImg8bit", "_leftImg8bit.png"),
    "labels": ("gtFine", "_gtFine_labelIds.png"),
    "instances": ("gtFine", "_gtFine_instanceIds.png"),
    "disparity": ("disparity", "_disparity.png"),
}
"""Kind of file -> its tree and the end of its name."""
SIXTEEN_BITS = ("I;16", "I;16B", "I")
INVERSE_DEPTH_SCALE = 65535
"""MTAN's inverse depth seems to be the 16-bit value of the PNG divided by this (its maximum there is 32257/65535)."""


class OfficialCityscapes(CityscapesSource):
    """The official trees `leftImg8bit`, `gtFine` and, if there is one, `disparity`.

        <root>/leftImg8bit/{train,val}/<city>/<stem>_leftImg8bit.png          8-bit RGB
        <root>/gtFine/{train,val}/<city>/<stem>_gtFine_labelIds.png           label ids 0..33
        <root>/gtFine/{train,val}/<city>/<stem>_gtFine_instanceIds.png        id, or id * 1000 + number
        <root>/disparity/{train,val}/<city>/<stem>_disparity.png              16 bits: p = 0 invalid, else (p - 1) / 256

    Stored: `image`; `label19`, official trainIds; `label7`, the official category of every label id that has one, so
    also of parking, rail track, guard rail, bridge, tunnel, pole group, caravan and trailer; `instance`, (y, x)
    offset to the instance's centroid in pixels of the raw frame; `disparity` in pixels of the raw frame;
    `inverse_depth`, the PNG's value / 65535. Cities and frames are sorted by name; a frame is every stem that any
    tree has, so a file without its partners is named as such.
    """

    layout = "official"

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        self.kinds = [kind for kind in FILES if kind != "disparity" or (root / "disparity").is_dir()]
        self.stems = {split: self._find(split) for split in FOLDERS}
        empty = [split for split, stems in self.stems.items() if not stems]
        if empty:
            raise DataError(f"`{root / 'leftImg8bit' / FOLDERS[empty[0]]}` holds no frame. {self.remedy}")
        first = self.path("image", "train", 0)
        height, width = read_image(first, RGB, self.remedy).shape[:2]
        self.frame = (height, width)
        self.train_ids, self.categories = lookup_tables()
        self.options = {
            "size": list(size),
            "resize": "image bilinear with anti-aliasing, others nearest",
            "frame": list(self.frame),
        }
        reach = float(max(self.frame))
        self.fields = (
            Field("image", "image", (3, *size), 0, 255, "RGB"),
            Field("label19", "labels", size, 0, 18, "official trainIds, 255 = void"),
            Field("label7", "labels", size, 0, 6, "official categories, 255 = void"),
            Field("instance", "values", (2, *size), -reach, reach, "(y, x) to the centroid, pixels of the raw frame"),
        )
        if "disparity" in self.kinds:
            self.fields += (
                Field("disparity", "values", (1, *size), 0, HIGHEST_DISPARITY, "pixels of the raw frame"),
                Field("inverse_depth", "values", (1, *size), 0, 1, f"16-bit value / {INVERSE_DEPTH_SCALE}"),
            )
        parts = [] if self.frame == OFFICIAL_FRAME else [f"raw frames of {height}x{width}"]
        self.describe(parts, {split: len(stems) for split, stems in self.stems.items()})

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether the two needed trees are there."""
        return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()

    def files(self) -> Sequence[Path]:
        """Frame by frame."""
        return [
            self.path(kind, split, index)
            for split, stems in self.stems.items()
            for index in range(len(stems))
            for kind in self.kinds
        ]

    def read(self, split: str, index: int) -> Sample:
        """Three or four files."""
        paths = {kind: self.path(kind, split, index) for kind in self.kinds}
        image = read_image(paths["image"], RGB, self.remedy)
        labels = read_image(paths["labels"], ("L",), self.remedy)
        instances = read_image(paths["instances"], SIXTEEN_BITS, self.remedy).astype(np.int64)
        maps = {"image": image, "labels": labels, "instances": instances}
        if "disparity" in paths:
            maps["disparity"] = read_image(paths["disparity"], SIXTEEN_BITS, self.remedy).astype(np.float32)
        for kind, array in maps.items():
            check_same_size(paths[kind], array, self.frame, self.remedy)
        for kind, highest in (("labels", int(labels.max())), ("instances", int(instances.max()))):
            if (highest if highest < 1000 else highest // 1000) > HIGHEST_ID:
                raise DataError(
                    f"`{paths[kind]}` holds {highest}; ids should be 0 to {HIGHEST_ID}"
                    f"{'' if kind == 'labels' else ', or such an id * 1000 + number'}. {self.remedy}"
                )
        small = resize_nearest(labels, self.size)
        offsets = resize_nearest(instance_offsets(instances), self.size)
        sample = {
            "image": resize_image(image, self.size).transpose(2, 0, 1),
            "label19": self.train_ids[small],
            "label7": self.categories[small],
            "instance": offsets.transpose(2, 0, 1).astype(np.float16),
        }
        if "disparity" in maps:
            raw = resize_nearest(maps["disparity"], self.size)[None]
            raw[raw == 0] = np.nan
            sample["disparity"] = ((raw - 1) / 256).astype(np.float16)
            sample["inverse_depth"] = (raw / INVERSE_DEPTH_SCALE).astype(np.float16)
        return sample

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return (
            "Get the archive of its tree again; or take all files of its frame out of every tree and say "
            "`allow_partial=true`. Then run the same command."
        )

    def path(self, kind: str, split: str, index: int) -> Path:
        """The file of one kind of a frame."""
        city, stem = self.stems[split][index]
        tree, end = FILES[kind]
        return self.root / tree / FOLDERS[split] / city / f"{stem}{end}"

    def _find(self, split: str) -> list[tuple[str, str]]:
        """(city, stem) of every frame that any tree has, sorted."""
        found = set()
        for kind in self.kinds:
            tree, end = FILES[kind]
            for path in (self.root / tree / FOLDERS[split]).glob(f"*/*{end}"):
                found.add((path.parent.name, path.name.removesuffix(end)))
        return sorted(found)
