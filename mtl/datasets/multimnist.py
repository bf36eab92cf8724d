"""MultiMNIST and its Fashion-MNIST siblings."""

import hashlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.base import DataModule, TensorSplit, select_tasks
from mtl.datasets.idx import find_idx, read_idx
from mtl.datasets.overlay import SIZE, Rows, compose, draw_partners, pair_split, pair_tasks
from mtl.errors import ConfigError, DataError
from mtl.seeding import derive_seed
from mtl.validation import check_bool, check_choice, check_count

FOLDERS = {
    "mnist": ("MNIST/raw", "MNIST", "mnist/raw", "mnist"),
    "fashion": ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist"),
}
"""Source -> folders under the data directory that may hold its files, torchvision's first."""
MEAN, STD = 0.1307, 0.3081
"""Of MNIST's training pixels in 0..1; used by the released code for composites too."""
PAIR_SEED = 2018
OFFICIAL_COUNTS = {"train": 60_000, "t10k": 10_000}

PARTNERS_SHA256 = {
    ("train", 50_000): "a025c06ac06b8f0231a5dff58d42f3816b4f7522df9d353e00a75485afa09316",
    ("train", 60_000): "41b205d46e4a6cac8c2e6b91bf8eae55a4b2d1c159ae9a4f75918556602e0c10",
    ("val", 10_000): "65ab97b955ab30227b84a53d2443eec2e678b6a57f7d1710b8be0afb81dd7dc1",
    ("test", 10_000): "8fea56011c9de8f630a504cf784fc7e05fe1d6f41a840c6319178cdfcc645226",
}
"""(split, samples) -> SHA-256 of the partner indices (int64, little-endian) of the default `pair_seed`."""
IMAGES_SHA256 = {
    ("train", 50_000): "f4a506817efbe418e20d445eeaebbe49487e9a3720abfac97f2d4dc66963d299",
    ("train", 60_000): "8510d9c0ee2814074b5367cbb80085391a8be5aecaf8b9b0e7c7d0368f7ced4f",
    ("val", 10_000): "f1538a03a36badbbfd0152689ec3f95e4820066ef103df22d82a60808be4e357",
    ("test", 10_000): "82599c98d859b6dee6c43d50eb4e181cab5aa7f006e847453d440cd2a0d2b36a",
}
"""(split, samples) -> SHA-256 of the MultiMNIST composites (N, 28, 28) uint8 of the official files."""
LABELS_SHA256 = {
    ("train", 50_000): "9e470cb459cc2276e3f71987fc2709e706e8b7accc93d1482bb03c8a3c05f659",
    ("train", 60_000): "07b8dcf833cf941d0aaa8f4c1e7d57d17daf9f9c1f0baa7844e573285905a768",
    ("val", 10_000): "72fdf3c2aa013c66ef8e2562e16f17cab2f8699285ad47f5cc096a51deb89c9e",
    ("test", 10_000): "9f23b90cc19587ae503a7bcac13353fe4a23993e3a15dcfaeb6dfebb1fd3e4be",
}
"""(split, samples) -> SHA-256 of all left, then all right MultiMNIST classes (uint8) of the official files."""


class MultiMNIST(DataModule):
    """Two digits in one image, one task for each (Sener and Koltun 2018, section 4.1, after Sabour et al. 2017).

    Image i of a split goes top-left, a partner out of the same split bottom-right; see `overlay` for the recipe.
    `left = right = mnist` is MultiMNIST, `fashion` for both MultiFashion, `mnist` left and `fashion` right
    MultiFashionMNIST (Lin et al. 2019, Pareto MTL; which of the two is top-left in their files was not verified).

    Inputs (B, 1, 28, 28) float32, normalised with mean 0.1307 and standard deviation 0.3081; targets `left`, `right`
    (B,) int64 in 0..9.

    Args:
        data_dir: Directory of all data sets, the value of MTL_DATA.
        left: Source of the top-left images, `mnist` (paper) or `fashion`.
        right: Source of the bottom-right images, `mnist` (paper) or `fashion`.
        tasks: Names out of `left`, `right`; None for both.
        val_size: Samples for validation, >= 0, from the end of the training file; 10,000 in Kurin et al. 2022. 0
            leaves out the split and trains on all 60,000, as the released code does.
        pair_seed: Origin of the partners, >= 0. Part of the data set, not of a run: the default makes the set the
            same for everyone.
        batch_size: Training samples per batch, >= 1; 256 in the paper.
        eval_batch_size: Samples per batch in evaluation, >= 1; changes no result.
        drop_last: Leave out a last, smaller training batch.
        download: Let torchvision fetch official files that are missing.

    With the official files' sizes and the default `pair_seed`, partners and (for MultiMNIST) finished images and
    classes are compared with stored SHA-256 sums.

    **Deviations.** Paper: its validation split is not known. Released code: 60,000 / 10,000, the test composites named
    "validation", pairs without a seed, so every user has another data set. Kurin et al. 2022: 50,000 / last 10,000 /
    10,000. Ours: the split of Kurin et al., `val_size=0` for that of the released code, stored seed and checksums.
    """

    def __init__(
        self,
        data_dir: str | Path,
        left: str = "mnist",
        right: str = "mnist",
        tasks: Sequence[str] | None = None,
        val_size: int = 10_000,
        pair_seed: int = PAIR_SEED,
        batch_size: int = 256,
        eval_batch_size: int = 1000,
        drop_last: bool = False,
        download: bool = False,
    ) -> None:
        check_choice("left", left, FOLDERS)
        check_choice("right", right, FOLDERS)
        check_count("val_size", val_size, minimum=0)
        check_count("pair_seed", pair_seed, minimum=0)
        check_count("batch_size", batch_size)
        check_count("eval_batch_size", eval_batch_size)
        check_bool("drop_last", drop_last)
        check_bool("download", download)
        self.root = Path(data_dir)
        self.left = left
        self.right = right
        self.tasks = select_tasks(pair_tasks(), tasks)
        self.input_shape = (1, SIZE, SIZE)
        self.val_size = val_size
        self.pair_seed = pair_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.drop_last = drop_last
        self.download = download

    def load(self) -> dict[str, TensorSplit]:
        """Read the files and make the composites of every split.

        Raises:
            DataError: a file is missing, damaged or not the official one.
            ConfigError: `val_size` leaves no training image.
        """
        paths = {source: self._locate(source) for source in dict.fromkeys((self.left, self.right))}
        splits = {}
        for part in ("train", "t10k"):
            sources = {source: _read_part(*paths[source][part]) for source in paths}
            left, right = sources[self.left], sources[self.right]
            if len(left[0]) != len(right[0]):
                raise DataError(
                    f"The `{part}` files of `left = {self.left}` and `right = {self.right}` should have the same "
                    f"number of images. Found {len(left[0])} and {len(right[0])}. Use the official files of both."
                )
            official = self.pair_seed == PAIR_SEED and len(left[0]) == OFFICIAL_COUNTS[part]
            for split, window in self._windows(part, len(left[0])).items():
                splits[split] = self._make(split, window, left, right, official)
        return splits

    def _windows(self, part: str, count: int) -> dict[str, slice]:
        """Split -> its images of a file pair."""
        if part == "t10k":
            return {"test": slice(0, count)}
        border = count - self.val_size
        if border < 1:
            raise ConfigError(
                f"Parameter `val_size` should be smaller than the number of training images, {count}. "
                f"Found `val_size = {self.val_size}`."
            )
        windows = {"train": slice(0, border), "val": slice(border, count)}
        return windows if self.val_size else {"train": windows["train"]}

    def _make(
        self, split: str, window: slice, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], official: bool
    ) -> TensorSplit:
        left_images, left_classes = (tensor[window] for tensor in left)
        right_images, right_classes = (tensor[window] for tensor in right)
        count = len(left_images)
        partners = draw_partners(count, derive_seed(self.pair_seed, "multimnist", split))
        images = compose(left_images, right_images, np.arange(count), partners)
        partner_classes = right_classes[torch.from_numpy(partners)]
        if official:
            _verify_partners(split, partners)
            if self.left == self.right == "mnist":
                _verify_files(split, images, left_classes, partner_classes)
        names = [task.name for task in self.tasks]
        return pair_split(images, left_classes, partner_classes, MEAN, STD).select(names)

    def _locate(self, source: str) -> dict[str, tuple[Path, Path]]:
        """Part ("train", "t10k") -> files of images and labels, fetched if missing and wanted."""
        try:
            return _find_files(self.root, source)
        except DataError:
            if not self.download:
                raise
        _fetch(self.root, source)
        return _find_files(self.root, source)


def _find_files(root: Path, source: str) -> dict[str, tuple[Path, Path]]:
    return {
        part: (
            find_idx(root, FOLDERS[source], f"{part}-images-idx3-ubyte"),
            find_idx(root, FOLDERS[source], f"{part}-labels-idx1-ubyte"),
        )
        for part in OFFICIAL_COUNTS
    }


def _fetch(root: Path, source: str) -> None:
    from torchvision import datasets  # slow to import, needed only here

    kind = datasets.MNIST if source == "mnist" else datasets.FashionMNIST
    try:
        kind(root=str(root), download=True)
    except (RuntimeError, OSError, EOFError, HTTPException) as error:
        raise DataError(
            f"The download of {kind.__name__} into `{root / FOLDERS[source][0]}` failed: {error} "
            f"Check the connection and the folder, or put the four official files there by hand."
        ) from error


def _read_part(image_path: Path, label_path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) and classes (N,), both uint8."""
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.shape[1:] != (SIZE, SIZE):
        raise DataError(
            f"`{image_path}` should hold images of shape (N, {SIZE}, {SIZE}). Found shape {tuple(images.shape)}. "
            f"Replace it by the official file."
        )
    if labels.dim() != 1 or len(labels) != len(images):
        raise DataError(
            f"`{label_path}` should hold one label for each of the {len(images)} images of `{image_path}`. "
            f"Found shape {tuple(labels.shape)}. Replace both by the official files."
        )
    if labels.max() > 9:
        raise DataError(
            f"`{label_path}` should hold classes 0..9. Found class {int(labels.max())}. "
            f"Replace it by the official file."
        )
    return images, labels


def _verify_partners(split: str, partners: Rows) -> None:
    expected = PARTNERS_SHA256.get((split, len(partners)))
    found = hashlib.sha256(partners.astype("<i8").tobytes()).hexdigest()
    if expected not in (None, found):
        raise DataError(
            f"The partners of the `{split}` split are not the stored ones: the stream of NumPy's RandomState differs. "
            f"Found SHA-256 {found}, expected {expected}. Use a NumPy release whose legacy generator is unchanged."
        )


def _verify_files(split: str, images: Tensor, left: Tensor, right: Tensor) -> None:
    for what, table, tensor in (("images", IMAGES_SHA256, images), ("labels", LABELS_SHA256, torch.cat([left, right]))):
        expected = table.get((split, len(images)))
        found = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        if expected not in (None, found):
            raise DataError(
                f"The {what} of the MultiMNIST `{split}` split are not the official ones, so a file of MNIST differs "
                f"from the official one. Found SHA-256 {found}, expected {expected}. Download the four files again; "
                f"for files of your own set another `pair_seed`, which leaves out this check."
            )
