"""Batches out of a prepared data set."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.base import Augment, Batch, Rows, Split
from mtl.datasets.packed import VOID, Array, Manifest, open_array
from mtl.tasks import IGNORE

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Target:
    """How a task's target comes out of a stored field.

    Attributes:
        field: Name of the stored array.
        kind: `labels` -> (B, H, W) int64, void -1; `edges` -> (B, H, W) int64 in {0, 1}, void -1, the boundaries of
            the labels; `values` -> (B, C + 1, H, W) float32, the last channel is the validity; `directions` -> the
            same for unit vectors; `attribute` -> (B,) int64.
        classes: For `labels` and `edges`: the class id of stored labels 0, 1, ...; None for the label itself. Maps
            several labels to one class, or to -1 = void.
        column: For `attribute`: which one.
        void: For `labels` and `edges`: the class id of a pixel without a label; -1, or 0 to make it a negative.
    """

    field: str
    kind: Literal["labels", "edges", "values", "directions", "attribute"]
    classes: tuple[int, ...] | None = None
    column: int = 0
    void: int = IGNORE


@dataclass(frozen=True)
class PackedSplit(Split):
    """A split that stays on disk; memory-mapped, so it takes no memory that the system cannot have back.

    Args:
        directory: Of the prepared set.
        manifest: Read from there.
        part: Name of the stored split.
        rows: Samples of the stored split that belong to this one, (n,) int64; a validation subset is made so.
        targets: Task -> how its target is read.
        mean: Subtracted from images in [0, 1], one a channel.
        std: Divided by after that, > 0.
        bgr: Whether channels come out as blue, green, red; `mean` and `std` are in that order then.
        augment: Applied by the loader.
        device: Where batches come out.
    """

    directory: Path
    manifest: Manifest
    part: str
    rows: Tensor
    targets: Mapping[str, Target]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False
    augment: Augment | None = None
    device: torch.device = CPU
    _arrays: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, rows: Rows) -> Batch:
        """Read, move to the device, convert."""
        chosen = self.rows[rows]
        stored = {name: self._read(name, chosen) for name in self._fields()}
        images = stored["image"].float().div_(255)
        images = images.flip(1) if self.bgr else images
        if self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0):
            mean, std = (images.new_tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
            images = images.sub_(mean).div_(std)
        return Batch(images, {task: convert(stored[target.field], target) for task, target in self.targets.items()})

    def select(self, tasks: Sequence[str]) -> "PackedSplit":
        """The same images with the targets of `tasks` only."""
        return replace(self, targets={task: self.targets[task] for task in tasks})

    def to(self, device: torch.device) -> "PackedSplit":
        """The same split with its batches on another device."""
        return replace(self, device=device)

    def fingerprint(self) -> str:
        """From the stored checksums of the arrays in use, the rows and the conversions; reads no array."""
        arrays = self.manifest.arrays[self.part]
        content = {
            "part": self.part,
            "arrays": {name: arrays[name].sha256 for name in self._fields()},
            "targets": {task: asdict(target) for task, target in sorted(self.targets.items())},
            "normalisation": [self.mean, self.std, self.bgr],
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        digest.update(self.rows.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def _fields(self) -> list[str]:
        return list(dict.fromkeys(["image", *sorted(target.field for target in self.targets.values())]))

    def _read(self, name: str, rows: Tensor) -> Tensor:
        if name not in self._arrays:
            count = self.manifest.counts[self.part]
            mapped = open_array(self.directory, self.part, self.manifest.field(name), count)
            self._arrays[name] = np.asarray(mapped)  # a plain view: indexing a np.memmap runs Python code each time
        return torch.from_numpy(self._arrays[name][rows.numpy()]).to(self.device)


def convert(stored: Tensor, target: Target) -> Tensor:
    """Stored entries (B, ...) to a target as the losses read it."""
    if target.kind == "attribute":
        return stored[:, target.column].long()
    if target.kind in ("labels", "edges"):
        labels = _classes(stored, target)
        return labels if target.kind == "labels" else boundaries(labels)
    return _with_validity(stored, unit=target.kind == "directions")


def _with_validity(stored: Tensor, *, unit: bool) -> Tensor:
    """(B, C, H, W) with NaN = invalid -> (B, C + 1, H, W) float32; vectors of length 1 where `unit`.

    Few passes over the pixels and none along a short axis: this is most of the time of a batch.
    """
    batch, channels, *size = stored.shape
    made = torch.empty((batch, channels + 1, *size), dtype=torch.float32, device=stored.device)
    values, valid = made[:, :-1], made[:, -1]
    values.copy_(stored)
    total = values[:, 0].square()
    for channel in range(1, channels):
        total.addcmul_(values[:, channel], values[:, channel])
    invalid = total.isfinite().logical_not_()  # squares of float16 do not overflow
    valid.copy_(invalid).neg_().add_(1)
    if unit:
        values.div_(total.sqrt_().clamp_min_(1e-6).unsqueeze(1))  # float16 is 0.03 degrees off unit length
    values.masked_fill_(invalid.unsqueeze(1), 0)
    return made


def _classes(stored: Tensor, target: Target) -> Tensor:
    """Stored labels -> class ids."""
    if target.classes is None:
        return stored.long().masked_fill_(stored == VOID, target.void)
    table = torch.full((256,), IGNORE)
    table[: len(target.classes)] = torch.tensor(target.classes)
    table[VOID] = target.void
    return table.to(stored.device)[stored.long()]


def boundaries(labels: Tensor) -> Tensor:
    """Class ids (B, H, W) -> 1 where a pixel above, below, left or right has another class, else 0; void stays -1.

    A boundary is two pixels wide, one on either side. Void is no class: there is no edge between it and a class.
    """
    edges = torch.zeros_like(labels)
    for dim in (1, 2):
        size = labels.shape[dim]
        first, second = labels.narrow(dim, 0, size - 1), labels.narrow(dim, 1, size - 1)
        differs = ((first != second) & (first != IGNORE) & (second != IGNORE)).long()
        edges.narrow(dim, 0, size - 1).bitwise_or_(differs)
        edges.narrow(dim, 1, size - 1).bitwise_or_(differs)
    return edges.masked_fill_(labels == IGNORE, IGNORE)
