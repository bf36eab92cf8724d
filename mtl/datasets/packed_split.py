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
        images = (stored["image"].flip(1) if self.bgr else stored["image"]).float().div_(255)
        if self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0):
            mean, std = (images.new_tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
            images = images.sub_(mean).div_(std)
        columns = {name: entries.unbind(1) for name, entries in stored.items() if self._is_attributes(name)}
        targets = {
            task: columns[target.field][target.column]
            if target.kind == "attribute"
            else convert(stored[target.field], target)
            for task, target in self.targets.items()
        }
        return Batch(images, targets)

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

    def _is_attributes(self, name: str) -> bool:
        return self.manifest.field(name).kind == "attributes"

    def _read(self, name: str, rows: Tensor) -> Tensor:
        if name not in self._arrays:
            count = self.manifest.counts[self.part]
            mapped = open_array(self.directory, self.part, self.manifest.field(name), count)
            self._arrays[name] = np.asarray(mapped)  # a plain view: indexing a np.memmap runs Python code each time
        entries = torch.from_numpy(self._arrays[name][rows.numpy()])
        if self._is_attributes(name):
            entries = entries.t().long().contiguous().t()  # int64 once for all tasks, a task's column in one piece
        return entries.to(self.device)


# Most of the time of a batch is spent below. On a CPU one pass of arithmetic over pixels runs at the speed of memory;
# comparisons, masks, `sqrt` and reductions along a short axis take 5 to 100 times as long, so there are none.


def convert(stored: Tensor, target: Target) -> Tensor:
    """Stored maps (B, ..., H, W) to a target as the losses read it; attributes need no conversion."""
    if target.kind == "labels":
        return _classes(stored, target).long()
    if target.kind == "edges":
        return boundaries(_classes(stored, target)).long()
    return _with_validity(stored, unit=target.kind == "directions")


def _with_validity(stored: Tensor, *, unit: bool) -> Tensor:
    """(B, C, H, W) with NaN = invalid -> (B, C + 1, H, W) float32; vectors of length 1 where `unit`."""
    batch, channels, *size = stored.shape
    made = torch.empty((batch, channels + 1, *size), dtype=torch.float32, device=stored.device)
    values, valid = made[:, :-1], made[:, -1]
    values.copy_(stored)
    if channels == 1 and not unit:
        torch.clamp(values[:, 0], 1, 1, out=valid)  # 1, or NaN
    else:
        torch.mul(values[:, 0], values[:, 0], out=valid)  # squares of float16 do not overflow
        for channel in range(1, channels):
            valid.addcmul_(values[:, channel], values[:, channel])
        scale = valid.rsqrt() if unit else torch.clamp(valid, 1, 1)
        values.mul_(scale.unsqueeze(1))  # float16 is 0.03 degrees off unit length; NaN reaches all channels
        valid.clamp_(1, 1)
    return made.nan_to_num_(0, 0, 0)


def _classes(stored: Tensor, target: Target) -> Tensor:
    """Stored labels -> class ids, int8."""
    if target.classes is None and target.void == IGNORE:
        return stored.view(torch.int8)  # VOID is -1 there, and no class is above 127
    classes = range(VOID) if target.classes is None else target.classes
    table = torch.full((256,), IGNORE, dtype=torch.int8)
    table[: len(classes)] = torch.tensor(classes).to(torch.int8)
    table[VOID] = target.void
    return table.to(stored.device).index_select(0, stored.flatten().int()).view_as(stored)


def boundaries(labels: Tensor) -> Tensor:
    """Class ids (B, H, W) -> 1 where a pixel above, below, left or right has another class, else 0; void stays -1.

    A boundary is two pixels wide, one on either side. Void is no class: there is no edge between it and a class.
    """
    valid = labels.clamp(-1, 0).add_(1)
    edges = torch.zeros_like(labels)
    for dim in (1, 2):
        size = labels.shape[dim]
        first, second = (slice(None),) * dim + (slice(size - 1),), (slice(None),) * dim + (slice(1, size),)
        differs = (labels[first] ^ labels[second]).clamp_(max=1).mul_(valid[first]).mul_(valid[second])
        edges[first] |= differs
        edges[second] |= differs
    return edges.add_(valid).sub_(1)
