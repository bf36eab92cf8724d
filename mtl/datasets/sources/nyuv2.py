"""What the layouts of NYU Depth v2 have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.datasets.images import resize_image, resize_nearest
from mtl.datasets.normals import pseudo_normals
from mtl.datasets.packed import Field
from mtl.datasets.sources.base import Sample, Source, to_stored_labels

LONGEST = 20.0
"""Metres; the sensor sees about 10."""
OFFICIAL_COUNTS = {"train": 795, "test": 654}
PSEUDO = "plane fit to the depth: sigma 2 blur, 9x9 window at 288x384"

Array = npt.NDArray[Any]


class NYUv2Source(Source):
    """A raw NYUv2 in one layout, prepared at `size`.

    Stored: `image`; `label13` and, where the layout has it, `label40`; `depth` in metres; `normals`, unit vectors
    given by the layout or fitted to the depth. Images are resized bilinearly with anti-aliasing, everything else
    takes the nearest pixel. The frame is not cropped: the border that the official projection leaves void is in it.

    Args:
        root: Directory of the layout.
        size: (H, W) of the prepared set.
    """

    pseudo: bool
    """Whether normals are fitted to the depth."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.root = root
        self.size = size
        self.options: Mapping[str, Any] = {
            "size": list(size),
            "resize": "image bilinear with anti-aliasing, others nearest",
            "normals": PSEUDO if self.pseudo else "given",
        }

    def set_up(self, origin: str, num_classes: tuple[int, ...], counts: Mapping[str, int]) -> None:
        """Set `fields`, `counts` and `note`.

        Args:
            origin: How the data deviates from the official file, for the note; empty if it does not.
            num_classes: Which class sets the layout has.
            counts: Split -> frames.
        """
        normals = f"unit vector to the camera: x right, y down, z forward; {PSEUDO}" if self.pseudo else "as given"
        self.counts = dict(counts)
        self.fields = (
            Field("image", "image", (3, *self.size), 0, 255, "RGB"),
            *(Field(f"label{n}", "labels", self.size, 0, n - 1, f"{n} classes, 255 = void") for n in num_classes),
            Field("depth", "values", (1, *self.size), 0, LONGEST, "metres"),
            Field("normals", "values", (3, *self.size), -1.001, 1.001, normals),
        )
        parts = [origin] if origin else []
        parts += ["pseudo normals"] if self.pseudo else []
        parts += [] if counts == OFFICIAL_COUNTS else [f"{counts['train']} training and {counts['test']} test frames"]
        self.note = f"NYUv2 ({', '.join(parts)})" if parts else ""

    def pack(self, image: Array, labels: Mapping[int, Array], depth: Array, normals: Array | None) -> Sample:
        """Checked arrays of one frame to a sample of the prepared size.

        Args:
            image: (h, w, 3) uint8.
            labels: Number of classes -> (h, w), 0 = void.
            depth: (h, w) metres, 0 = invalid.
            normals: (h, w, 3), NaN = invalid; None to fit them.
        """
        depth = depth.astype(np.float32)
        if normals is None:
            normals = pseudo_normals(depth)
        small = resize_nearest(depth, self.size)
        return {
            "image": resize_image(image, self.size).transpose(2, 0, 1),
            **{f"label{n}": to_stored_labels(resize_nearest(array, self.size)) for n, array in labels.items()},
            "depth": np.where(small > 0, small, np.nan)[None].astype(np.float16),
            "normals": resize_nearest(normals, self.size).transpose(2, 0, 1).astype(np.float16),
        }
