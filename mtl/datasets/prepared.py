"""What data modules over prepared sets have in common."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.augment import Augmentation, Quantity
from mtl.datasets.base import DataModule, Split
from mtl.datasets.packed import Manifest, read_manifest
from mtl.datasets.packed_split import PackedSplit, Target
from mtl.errors import ConfigError, DataError
from mtl.validation import check_bool, check_choice, check_count


class Normalisation(NamedTuple):
    """(image - mean) / std with images in [0, 1]; with `bgr`, channels are reversed first."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False


NORMALISATIONS: Mapping[str, Normalisation] = {
    "none": Normalisation(),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""The numbers for ImageNet are those of torchvision's weights."""
SPLIT_SEED = 2021
"""Origin of the validation subset: part of the data set, not of a run."""


class PreparedData(DataModule):
    """A data set that scripts/prepare_data.py has prepared.

    Subclasses set `tasks`, check their own options, and say how targets are read.

    Args:
        dataset: Name, as in `prepare_data.py dataset=`.
        data_dir: Directory of all data sets, the value of MTL_DATA.
        prepared: The prepared directory; None for `<data_dir>/prepared/<dataset>-<H>x<W>`.
        size: (H, W).
        val_size: Training samples set apart for validation, >= 0.
        normalisation: One of `normalisations`.
        augmentation: Of the training split; None for none.
        batch_size: Training samples per batch.
        eval_batch_size: Samples per batch in evaluation.
        drop_last: Leave out a last, smaller training batch.
    """

    quantities: Mapping[str, Quantity]
    """Task -> what its target is."""
    classes: Mapping[str, tuple[str, ...]] = {}
    """Task -> names of its classes, where they have any."""
    normalisations: Mapping[str, Normalisation] = NORMALISATIONS
    """The ones that published protocols of the data set have."""

    def __init__(
        self,
        dataset: str,
        data_dir: str | Path,
        prepared: str | Path | None,
        size: Sequence[int],
        val_size: int,
        normalisation: str,
        augmentation: Augmentation | None,
        batch_size: int,
        eval_batch_size: int,
        drop_last: bool,
    ) -> None:
        sides = list(size)
        if len(sides) != 2:
            raise ConfigError(f"Parameter `size` should be [height, width]. Found `size = {size!r}`.")
        for side in sides:
            check_count("size", side, minimum=8)
        check_count("val_size", val_size, minimum=0)
        check_choice("normalisation", normalisation, self.normalisations)
        check_count("batch_size", batch_size)
        check_count("eval_batch_size", eval_batch_size)
        check_bool("drop_last", drop_last)
        self.dataset = dataset
        self.size = (sides[0], sides[1])
        self.directory = Path(prepared) if prepared is not None else default_directory(data_dir, dataset, self.size)
        self.input_shape = (3, *self.size)
        self.val_size = val_size
        self.normalisation = self.normalisations[normalisation]
        if augmentation is not None and any(augmentation.jitter) and self.normalisation.bgr:
            raise ConfigError(
                f"`normalisation = {normalisation}` reverses the channels, which colour jitter does not know. Set "
                "`brightness`, `contrast` and `saturation` of the augmentation to 0."
            )
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.drop_last = drop_last

    @abstractmethod
    def targets(self) -> dict[str, Target]:
        """Task -> how its target comes out of the stored fields."""

    def check(self) -> None:
        """Read the manifest.

        Raises:
            DataError: nothing is prepared there, or it is of another data set or size, or lacks a field.
            ConfigError: `val_size` leaves no training sample.
        """
        self.note = self._manifest().note

    def load(self) -> dict[str, Split]:
        """Splits that read from disk."""
        manifest = self._manifest()
        splits: dict[str, Split] = {}
        for split, (part, rows) in self._rows(manifest).items():
            augment = None
            if split == "train" and self.augmentation is not None:
                augment = self.augmentation.bind(self.quantities, self.normalisation.mean, self.normalisation.std)
            splits[split] = PackedSplit(
                self.directory, manifest, part, rows, self.targets(), *self.normalisation, augment=augment
            )
        return splits

    def _manifest(self) -> Manifest:
        height, width = self.size
        command = f"python scripts/prepare_data.py dataset={self.dataset} source=RAW_DATA size={height}x{width}"
        remedy = (
            f"Prepare it with\n  {command} out={self.directory}\nwhere RAW_DATA is the directory or archive of the "
            "raw data (data/README.md), or set `dataset.prepared=DIR` to where it is."
        )
        manifest = read_manifest(self.directory, remedy)
        if manifest.dataset != self.dataset:
            raise DataError(f"`{self.directory}` holds {manifest.dataset}, not {self.dataset}. {remedy}")
        found = manifest.field("image").shape
        if found != self.input_shape:
            raise DataError(
                f"`{self.directory}` was prepared at {found[1]}x{found[2]}; asked for is `dataset.size` "
                f"{height}x{width}. {remedy}"
            )
        names = [field.name for field in manifest.fields]
        for task, target in self.targets().items():
            if target.field not in names:
                raise DataError(
                    f"Task `{task}` needs `{target.field}`, which `{self.directory}` does not have (it has "
                    f"{', '.join(names)}): its source, layout `{manifest.layout}`, gives none. Leave out the task or "
                    "its option, or prepare from another layout."
                )
        if self.val_size >= manifest.counts["train"]:
            raise ConfigError(
                f"Parameter `val_size` should be smaller than the number of training samples, "
                f"{manifest.counts['train']}. Found `val_size = {self.val_size}`."
            )
        return manifest

    def _rows(self, manifest: Manifest) -> dict[str, tuple[str, Tensor]]:
        """Split -> stored split and its rows, in stored order."""
        if "val" in manifest.counts or not self.val_size:
            return {split: (split, torch.arange(count)) for split, count in manifest.counts.items()}
        count = manifest.counts["train"]
        order = np.random.RandomState(SPLIT_SEED).permutation(count)  # legacy generator: its stream is frozen
        val, train = np.sort(order[: self.val_size]), np.sort(order[self.val_size :])
        return {
            "train": ("train", torch.from_numpy(train)),
            "val": ("train", torch.from_numpy(val)),
            "test": ("test", torch.arange(manifest.counts["test"])),
        }


def default_directory(data_dir: str | Path, dataset: str, size: tuple[int, int]) -> Path:
    """Where a prepared set lies if nobody says otherwise."""
    return Path(data_dir) / "prepared" / f"{dataset}-{size[0]}x{size[1]}"
