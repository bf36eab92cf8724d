"""MultiDigits: MultiMNIST's recipe on the handwritten digits that scikit-learn carries."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.base import DataModule, TensorSplit, select_tasks
from mtl.datasets.overlay import SIZE, Rows, compose, draw_rows, pair_split, pair_tasks
from mtl.seeding import derive_seed
from mtl.validation import check_bool, check_count

DIGIT_SIZE = 8
MAX_VALUE = 16
"""Value of full ink in the 8x8 digits."""
DIGITS_FILE = "datasets/data/digits.csv.gz"
"""Inside scikit-learn's package."""
SPLIT_SEED = 2018
SPLIT_DIGITS = {"train": 1197, "val": 300, "test": 300}
"""Digits of each split, 1,797 in all."""
MEAN, STD = 0.2990, 0.3409
"""Of the default training composites' pixels in 0..1."""


class MultiDigits(DataModule):
    """Two small handwritten digits in one image, one task for each; needs no file and no download.

    The 1,797 digits (8x8, values 0..16) of `sklearn.datasets.load_digits` (UCI "Optical Recognition of Handwritten
    Digits", test part) are divided once and for all into disjoint sets of 1,197 / 300 / 300 for train / val / test,
    scaled to 28x28 (bilinear) and 0..255, and overlaid exactly as MultiMNIST's (Sener and Koltun 2018; see
    `overlay`). Each composite takes a random top-left and a random bottom-right digit of its split.

    Inputs (B, 1, 28, 28) float32, normalised; targets `left`, `right` (B,) int64 in 0..9.

    Args:
        tasks: Names out of `left`, `right`; None for both.
        train_size: Training composites, >= 1. May exceed the number of digits: there are 1197^2 pairs.
        val_size: Validation composites, >= 0; 0 leaves out the split.
        test_size: Test composites, >= 1.
        pair_seed: Origin of the pairs, >= 0. Part of the data set, not of a run. Which digit belongs to which split
            does not depend on it.
        batch_size: Training samples per batch, >= 1; 256 for MultiMNIST in the paper.
        eval_batch_size: Samples per batch in evaluation, >= 1; changes no result.
        drop_last: Leave out a last, smaller training batch.

    **Deviations.** Paper and released code: MNIST, every image once top-left, normalised with MNIST's mean 0.1307 and
    standard deviation 0.3081. Ours: other digits, both drawn, normalised with mean 0.2990 and standard deviation
    0.3409 of the default training composites, whose blurred strokes cover more of the image than MNIST's.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        train_size: int = 6000,
        val_size: int = 1500,
        test_size: int = 1500,
        pair_seed: int = 2018,
        batch_size: int = 256,
        eval_batch_size: int = 1000,
        drop_last: bool = False,
    ) -> None:
        check_count("train_size", train_size)
        check_count("val_size", val_size, minimum=0)
        check_count("test_size", test_size)
        check_count("pair_seed", pair_seed, minimum=0)
        check_count("batch_size", batch_size)
        check_count("eval_batch_size", eval_batch_size)
        check_bool("drop_last", drop_last)
        self.tasks = select_tasks(pair_tasks(), tasks)
        self.input_shape = (1, SIZE, SIZE)
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.pair_seed = pair_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.drop_last = drop_last

    def load(self) -> dict[str, TensorSplit]:
        """Make the composites of every split."""
        digits, classes = load_digits()
        rows = split_digits()
        return {split: self._make(split, digits, classes, rows[split]) for split, size in self.sizes.items() if size}

    def _make(self, split: str, digits: Tensor, classes: Tensor, rows: Rows) -> TensorSplit:
        left, right = (rows[draws] for draws in self.pairs(split))
        images = compose(digits, digits, left, right)
        left_classes, right_classes = (classes[torch.from_numpy(side)] for side in (left, right))
        split_data = pair_split(images, left_classes, right_classes, MEAN, STD)
        return split_data.select([task.name for task in self.tasks])

    def pairs(self, split: str) -> tuple[Rows, Rows]:
        """Positions in `split_digits()[split]` of the left and the right digit of every composite, (N,) each."""
        left, right = (
            draw_rows(self.sizes[split], SPLIT_DIGITS[split], derive_seed(self.pair_seed, "multidigits", split, side))
            for side in ("left", "right")
        )
        return left, right


def split_digits() -> dict[str, Rows]:
    """Split -> rows of its digits in scikit-learn's order; disjoint, all 1,797 together."""
    stream = np.random.RandomState(SPLIT_SEED)  # legacy generator: its stream is frozen
    order = stream.permutation(sum(SPLIT_DIGITS.values())).astype(np.int64)
    borders = np.cumsum(list(SPLIT_DIGITS.values()))[:-1]
    return dict(zip(SPLIT_DIGITS, np.split(order, borders), strict=True))


def load_digits() -> tuple[Tensor, Tensor]:
    """All digits (1797, 28, 28) uint8 and their classes (1797,) int64."""
    table = _digit_table()
    digits = torch.from_numpy(table[:, :-1].reshape(-1, DIGIT_SIZE, DIGIT_SIZE))
    return enlarge(digits), torch.from_numpy(table[:, -1].copy())


def _digit_table() -> Rows:
    """scikit-learn's digits (1797, 65): 64 pixels in 0..16 and the class.

    Read from the package's file: to import the package takes longer than everything else that a run does before its
    first step.
    """
    package = find_spec("sklearn")
    places = [Path(place) for place in (package.submodule_search_locations or ())] if package is not None else []
    for file in (place / DIGITS_FILE for place in places):
        if file.is_file():
            return np.loadtxt(file, delimiter=",", dtype=np.int64)
    from sklearn import datasets  # a version that keeps them elsewhere

    bunch = datasets.load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)


def enlarge(digits: Tensor) -> Tensor:
    """Bilinear resize of (N, 8, 8) int64 in 0..16 to (N, 28, 28) uint8 in 0..255.

    The rule of `torch.nn.functional.interpolate(align_corners=False)`, in integers: weights are fourteenths, so every
    machine gets the same bytes. Halves are rounded up.
    """
    weights = _bilinear_weights()
    scaled = weights @ digits @ weights.T * 255
    unit = MAX_VALUE * 14**2
    return ((2 * scaled + unit) // (2 * unit)).to(torch.uint8)


def _bilinear_weights() -> Tensor:
    """(28, 8) int64, 14 times the share of each source row in each target row; rows sum to 14."""
    position = (4 * torch.arange(SIZE) - 5).clamp(0, 14 * (DIGIT_SIZE - 1))  # 14 * ((i + 0.5) * 8 / 28 - 0.5)
    source = 14 * torch.arange(DIGIT_SIZE)
    return (14 - (position[:, None] - source[None, :]).abs()).clamp_min(0)
