"""Sources: raw data sets on disk, one class per layout. A prepared set is made by reading one from end to end."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.datasets.packed import Field
from mtl.errors import DataError
from mtl.validation import check_count

Sample = dict[str, npt.NDArray[Any]]
"""Field name -> one sample, of the field's shape and dtype."""


class Source(ABC):
    """One raw data set in one layout.

    A new data set is one class per layout with these members, and a line in `sources/__init__.py`. Everything else
    (resuming, checksums, checks of shapes and ranges, progress) is `prepare`'s.

    Attributes:
        layout: Short name, for `layout=` and the manifest.
        root: The directory that was recognised.
        note: What has to stand beside results; empty for the official data in full.
        fields: What `read` gives.
        options: What the prepared set depends on besides the raw files.
        counts: Split -> samples; "train", "test", and "val" where the raw data has one.
        official_counts: What `counts` is for the official data in full; empty where any number will do.
    """

    layout: str
    root: Path
    note: str
    fields: tuple[Field, ...]
    options: Mapping[str, Any]
    counts: Mapping[str, int]
    official_counts: Mapping[str, int] = {}

    @classmethod
    @abstractmethod
    def matches(cls, root: Path) -> bool:
        """Whether `root` looks like this layout; looks at a few names only."""

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """All raw files that `read` will touch, in a fixed order."""

    @abstractmethod
    def read(self, split: str, index: int) -> Sample:
        """Sample `index` of a split, at its prepared size. Called from several threads.

        Raises:
            DataError: a file of the sample is missing, damaged or out of range; names it.
        """

    def check(self) -> None:
        """Raise DataError unless every raw file is there; names the first missing one, and how many are."""
        missing = [path for path in self.files() if not path.is_file()]
        if missing:
            others = f" and {len(missing) - 1} more files are missing" if len(missing) > 1 else " is missing"
            raise DataError(f"`{missing[0]}`{others}. {self.remedy}")

    def check_counts(self, allow_partial: bool) -> None:
        """Raise DataError if samples are missing or too many and nobody said that this is wanted."""
        if self.official_counts and self.counts != self.official_counts and not allow_partial:
            found, official = (_listing(counts) for counts in (self.counts, self.official_counts))
            raise DataError(
                f"`{self.root}` has {found} samples; the official data have {official}. Get what is missing; or, for "
                f'a part or a miniature, say `allow_partial=true`: results then carry the note "{self.note}".'
            )

    @property
    def remedy(self) -> str:
        """What a user does about a bad file."""
        return f"Get the file again, or take its frame out of the lists of `{self.root}`; then run the same command."

    def fingerprint(self) -> str:
        """SHA-256 over names (relative to the root) and sizes of all raw files."""
        digest = hashlib.sha256()
        for path in self.files():
            name = path.relative_to(self.root) if path.is_relative_to(self.root) else path.name
            digest.update(f"{name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()


def parse_size(text: str | Sequence[int]) -> tuple[int, int]:
    """`HxW` or a sequence of two numbers -> (H, W).

    Raises:
        ConfigError: two integers >= 8 cannot be read.
    """
    parts: list[Any] = list(text.lower().split("x") if isinstance(text, str) else text)
    numbers = [int(part) if isinstance(part, str) and part.isdecimal() else part for part in parts]
    if len(numbers) != 2:
        check_count("size", text, minimum=8)
    for number in numbers:
        check_count("size", number, minimum=8)
    return numbers[0], numbers[1]


def check_labels(path: Path, labels: npt.NDArray[Any], num_classes: int, remedy: str, where: str = "") -> None:
    """Raise DataError if a raw label (0 = void, 1..num_classes) is larger than that."""
    highest = int(labels.max())
    if highest > num_classes:
        raise DataError(
            f"`{path}`{where} holds label {highest}; labels should be 0 (void) or 1 to {num_classes}. {remedy}"
        )


def to_stored_labels(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Raw labels 0 = void, 1..C -> stored labels 0..C-1, 255 = void."""
    return np.where(labels == 0, 255, labels - 1).astype(np.uint8)


def check_range(path: Path, array: npt.NDArray[Any], low: float, high: float, what: str, remedy: str) -> None:
    """Raise DataError unless all entries are numbers from `low` to `high`; `what` says so in words."""
    found = float(array.min()), float(array.max())
    if not low <= found[0] <= found[1] <= high:
        raise DataError(f"`{path}` holds {found[0]:g} to {found[1]:g}, expected {what}. {remedy}")


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items())


def check_depth(path: Path, depth: npt.NDArray[Any], longest: float, remedy: str, where: str = "") -> None:
    """Raise DataError unless every depth is a number from 0 (invalid) to `longest` metres, some above 0."""
    bad = int((~np.isfinite(depth)).sum())
    if bad:
        raise DataError(
            f"`{path}`{where} holds {bad} depths that are NaN or infinite; an invalid depth is written as 0. {remedy}"
        )
    low, high = float(depth.min()), float(depth.max())
    if low < 0 or high > longest or high == 0:
        raise DataError(
            f"`{path}`{where} holds depths from {low:g} to {high:g}; legal are 0 (invalid) to {longest:g} metres, not "
            f"all of them 0. Is the file in other units? {remedy}"
        )
