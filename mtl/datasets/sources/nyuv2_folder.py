"""NYUv2 as a folder of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl.datasets.images import LABELS, RGB, check_same_size, read_image
from mtl.datasets.sources.base import Sample, check_depth, check_labels
from mtl.datasets.sources.nyuv2 import LONGEST, NYUv2Source
from mtl.errors import DataError

FOLDERS = {"rgb": "jpg", "depth8": "png", "label13": "png", "label40": "png"}
MAX_DEPTH_STEP = 25.5
"""Steps of the 8-bit depth per metre."""


class FolderNYUv2(NYUv2Source):
    """One image file per frame and kind, and two lists of frames.

        <root>/train.txt, test.txt      one stem a line
        <root>/rgb/<stem>.jpg           colour
        <root>/depth8/<stem>.png        8 bits, in-painted depth: metres = (v + 0.5) / 25.5
        <root>/label13/<stem>.png       0 = void, 1..13
        <root>/label40/<stem>.png       0 = void, 1..40

    Normals are fitted to the depth. Results on it are marked "NYUv2 (JPEG, 8-bit depth, pseudo normals)".
    """

    layout = "folder"
    pseudo = True

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        self.stems = {split: read_list(root / f"{split}.txt") for split in ("train", "test")}
        both = sorted(set(self.stems["train"]) & set(self.stems["test"]))
        if both:
            raise DataError(
                f"`{root / 'train.txt'}` and `{root / 'test.txt'}` share {len(both)} frames, the first is {both[0]}. "
                "Take each out of one of them."
            )
        self.set_up("JPEG, 8-bit depth", (13, 40), {split: len(stems) for split, stems in self.stems.items()})
        self._frame_size: tuple[int, int] | None = None

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether the lists and at least one of the folders are there."""
        return (root / "train.txt").is_file() and (root / "depth8").is_dir()

    def files(self) -> Sequence[Path]:
        """Lists first, then frame by frame."""
        lists = [self.root / f"{split}.txt" for split in self.stems]
        return lists + [
            self._path(folder, stem) for stems in self.stems.values() for stem in stems for folder in FOLDERS
        ]

    def read(self, split: str, index: int) -> Sample:
        """Four files."""
        stem = self.stems[split][index]
        paths = {folder: self._path(folder, stem) for folder in FOLDERS}
        arrays = {
            folder: read_image(path, RGB if folder == "rgb" else LABELS, self.remedy) for folder, path in paths.items()
        }
        self._frame_size = self._frame_size or (arrays["rgb"].shape[0], arrays["rgb"].shape[1])
        for folder, path in paths.items():
            check_same_size(path, arrays[folder], self._frame_size, self.remedy)
        depth = (arrays["depth8"].astype(np.float32) + 0.5) / MAX_DEPTH_STEP
        check_depth(paths["depth8"], depth, LONGEST, self.remedy)
        for count in (13, 40):
            check_labels(paths[f"label{count}"], arrays[f"label{count}"], count, self.remedy)
        return self.pack(arrays["rgb"], {13: arrays["label13"], 40: arrays["label40"]}, depth, None)

    def _path(self, folder: str, stem: str) -> Path:
        return self.root / folder / f"{stem}.{FOLDERS[folder]}"


def read_list(path: Path) -> list[str]:
    """The stems of a list file, one a line.

    Raises:
        DataError: it is missing, empty, or has a stem twice or with a path in it.
    """
    try:
        stems = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` should be a list of frames, one stem a line. Found: {error}.") from error
    if not stems:
        raise DataError(f"`{path}` lists no frames. It should have one stem a line.")
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    bad = [stem for stem in stems if "/" in stem or "\\" in stem or stem in (".", "..")] + repeated
    if bad:
        raise DataError(f"`{path}` should list plain stems, each once. Found `{bad[0]}`. Correct the line.")
    return stems
