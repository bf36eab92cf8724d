"""What the layouts of Cityscapes have in common: classes, counts, the instance offsets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.datasets.packed import VOID
from mtl.datasets.sources.base import Source

OFFICIAL_COUNTS = {"train": 2975, "test": 500}
OFFICIAL_FRAME = (1024, 2048)
FOLDERS = {"train": "train", "test": "val"}
"""Our name of a split -> theirs: the labels of the official test split are not public, so `val` is the test set."""

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the 19 classes of the official evaluation; the position is the official trainId."""
CATEGORIES = {
    "flat": range(7, 11),
    "construction": range(11, 17),
    "object": range(17, 21),
    "nature": range(21, 23),
    "sky": range(23, 24),
    "human": range(24, 26),
    "vehicle": range(26, 34),
}
"""The seven official categories but void, and all their label ids, evaluated or not."""
HIGHEST_ID = 33
WITH_INSTANCES = tuple(label for label in EVALUATED if label >= 24)
"""Label ids of persons, riders and vehicles."""
HIGHEST_DISPARITY = 256.0
"""Pixels that 16 bits can hold."""

Array = npt.NDArray[Any]


def lookup_tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Label id (0..255) -> stored class of 19, and of 7; void is 255."""
    train, category = np.full(256, VOID, np.uint8), np.full(256, VOID, np.uint8)
    train[list(EVALUATED)] = np.arange(len(EVALUATED))
    for position, labels in enumerate(CATEGORIES.values()):
        category[list(labels)] = position
    return train, category


def category_of_class() -> tuple[str, ...]:
    """The category of each of the 19 classes."""
    return tuple(next(name for name, labels in CATEGORIES.items() if label in labels) for label in EVALUATED)


def instance_offsets(instances: Array) -> npt.NDArray[np.float32]:
    """Offset (y, x) from each pixel to the centroid of its instance, in pixels of this map.

    An instance is an id of at least 1000, class * 1000 + number, of an evaluated class that has instances. Groups
    (ids below 1000 of such a class), all other classes and void have none.

    Args:
        instances: (H, W) official instanceIds.

    Returns:
        (H, W, 2); NaN where there is no instance. A pixel plus its offset is the mean of the instance's pixels.
    """
    offsets = np.full((*instances.shape, 2), np.nan, np.float32)
    inside = (instances >= 1000) & np.isin(instances // 1000, WITH_INSTANCES)
    places = np.stack(np.nonzero(inside))
    _, number = np.unique(instances[inside], return_inverse=True)
    size = np.bincount(number)
    for axis in (0, 1):
        centroids = np.bincount(number, weights=places[axis]) / size
        offsets[places[0], places[1], axis] = centroids[number] - places[axis]
    return offsets


class CityscapesSource(Source):
    """A raw Cityscapes in one layout, prepared at `size`.

    Args:
        root: Directory of the layout.
        size: (H, W) of the prepared set.
    """

    official_counts = OFFICIAL_COUNTS

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.root = root
        self.size = size

    def describe(self, parts: list[str], counts: Mapping[str, int]) -> None:
        """Set `counts`, and `note` out of `parts` and a deviating number of frames."""
        self.counts = dict(counts)
        if counts != OFFICIAL_COUNTS:
            parts = [*parts, f"{counts['train']} training and {counts['test']} test frames"]
        self.note = f"Cityscapes ({', '.join(parts)})" if parts else ""
