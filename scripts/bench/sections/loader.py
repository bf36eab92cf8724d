"""Loading a MultiMNIST-sized set: our tensors in memory against a DataLoader over images with transforms."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.datasets.base import Batch, Loader
from mtl.datasets.multimnist import MEAN, STD
from mtl.datasets.overlay import pair_split

NAME = "loader"
BAR = 10.0
SAMPLES, BATCH_SIZE = 60_000, 256
WARM, TIMED = 4, 16
"""Batches of an epoch of the DataLoader: read before the clock starts (start of workers, first fetches), and timed."""


class PairImages(Dataset[tuple[Tensor, int, int]]):
    """Images and classes the way torchvision's MNIST holds them: uint8 in memory, PIL and transforms per sample."""

    def __init__(self, images: Tensor, left: Tensor, right: Tensor) -> None:
        from torchvision import transforms

        self.images, self.left, self.right = images, left, right
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        from PIL import Image

        image = Image.fromarray(self.images[index].numpy(), mode=None)
        return self.transform(image), int(self.left[index]), int(self.right[index])


def _images() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SAMPLES, 28, 28), dtype=torch.uint8, generator=generator)
    left, right = torch.randint(10, (2, SAMPLES), generator=generator)
    return images, left, right


def tensors() -> Contender:
    """One shuffled epoch of Loader."""
    loader, epochs = _loader(), itertools.count()
    return timed(lambda: sum(batch.num_samples for batch in loader.batches(next(epochs))), calls=1)


def copies() -> Contender:
    """A copy of the batches of an epoch: the same bytes, from one place in memory to a new one."""
    found = list(_loader().batches(0))
    return timed(lambda: sum(copied(batch) for batch in found), calls=1)


def copied(batch: Batch) -> int:
    """Copy a batch; the number of its samples."""
    for tensor in (batch.inputs, *batch.targets.values()):
        tensor.clone()
    return batch.num_samples


def _loader() -> Loader:
    return Loader(pair_split(*_images(), MEAN, STD), BATCH_SIZE, shuffle=True, drop_last=False)


def dataloader(workers: int) -> Contender:
    """Of torch, over images."""
    loader = DataLoader(PairImages(*_images()), BATCH_SIZE, shuffle=True, num_workers=workers)
    return steady(loader, lambda batch: len(batch[0]), WARM, TIMED)


def steady(loader: DataLoader[Any], size: Callable[[Any], int], warm: int, count: int) -> Contender:
    """The steady state of a shuffled epoch of torch's DataLoader: start-up of workers is not counted.

    Args:
        loader: With its workers.
        size: Samples of a batch.
        warm: Batches read before the clock starts.
        count: Batches that are timed.
    """
    batches: Iterator[Any] = iter(())

    def start() -> None:
        nonlocal batches
        batches = iter(loader)
        for _ in itertools.islice(batches, warm):
            pass

    inner = timed(lambda: sum(map(size, itertools.islice(batches, count))), start, calls=1)

    def turn() -> float:
        nonlocal batches
        seconds = inner.turn()
        batches = iter(())  # ends the workers: they would read ahead during the turns of others
        return seconds

    return Contender(turn)


def build(name: str) -> Contender:
    """`tensors`, `copies` or `dataloader:WORKERS`."""
    kind, _, workers = name.partition(":")
    return {"tensors": tensors, "copies": copies, "dataloader": lambda: dataloader(int(workers))}[kind]()


SECTION = Section(
    "An epoch of MultiMNIST",
    f"Shuffled batches of {BATCH_SIZE} out of {SAMPLES:,} random 28x28 images. DataLoader: uint8 images through "
    "PIL, `ToTensor` and `Normalize`; 0 and 2 workers, the faster one counts; start-up of workers not timed. "
    "Copy: the tensors of the batches, cloned.",
    [
        Row(NAME, "Loader / fastest DataLoader", "tensors", ("dataloader:0", "dataloader:2"), BAR, "speedup"),
        Row(NAME, "Loader / copy of the same batches", "tensors", "copies"),
    ],
    build,
    limit=10,
    rounds=8,
)
