"""Forty binary tasks on averaged images of garments and digits, and a thin residual network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.datasets.base import Batch
from mtl.datasets.idx import find_idx, read_idx
from mtl.models.heads.linear import LinearHead
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.tasks import BinaryCrossEntropy, TaskSpec, attribute_metrics

TASKS = tuple(f"t{k:02d}" for k in range(40))
TRAIN, VAL, TEST = 10_000, 5_000, 10_000
BATCH_SIZE = 128


@dataclass(frozen=True)
class Data:
    """Images (N, 1, 28, 28) and labels (N, 40) of a split."""

    images: Tensor
    labels: Tensor

    def batch(self, rows: Tensor) -> Batch:
        """The samples `rows`."""
        labels = self.labels[rows]
        return Batch(self.images[rows], {task: labels[:, k] for k, task in enumerate(TASKS)})


def load(mnist: Path, fashion: Path) -> dict[str, Data]:
    """Splits `train` (noisy labels), `val` and `test` (true labels). The same for every seed of a run.

    A task asks whether the garment (even tasks) or the digit (odd tasks) of an image belongs to a random set of 3 to 7
    classes; between 0 and 30 % of its training labels are turned around.
    """
    stream = torch.Generator().manual_seed(derive_seed(0, "sketch trial"))
    members = torch.zeros(len(TASKS), 10, dtype=torch.int64)
    for row in members:
        size = int(torch.randint(3, 8, (1,), generator=stream))
        row[torch.randperm(10, generator=stream)[:size]] = 1
    noise = 0.3 * torch.rand(len(TASKS), generator=stream)
    splits, files = {}, {"train": "train", "test": "t10k"}
    for split, stem in files.items():
        parts = []
        for root in (fashion, mnist):
            images = read_idx(find_idx(root, (".",), f"{stem}-images-idx3-ubyte"))
            labels = read_idx(find_idx(root, (".",), f"{stem}-labels-idx1-ubyte"))
            order = torch.randperm(len(images), generator=stream)[: TRAIN + VAL if split == "train" else TEST]
            parts.append((images[order].float() / 255, labels[order].long()))
        (garments, garment), (digits, digit) = parts
        labels = torch.stack([members[k][digit if k % 2 else garment] for k in range(len(TASKS))], dim=1)
        splits[split] = Data(((garments + digits) / 2).unsqueeze(1), labels)
    train, val = (Data(splits["train"].images[part], splits["train"].labels[part]) for part in _parts())
    mean, std = train.images.mean(), train.images.std()
    turned = (torch.rand(train.labels.shape, generator=stream) < noise).long()
    found = {"train": Data(train.images, train.labels ^ turned), "val": val, "test": splits["test"]}
    return {split: Data((data.images - mean) / std, data.labels) for split, data in found.items()}


def _parts() -> tuple[slice, slice]:
    return slice(0, TRAIN), slice(TRAIN, TRAIN + VAL)


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        plain = inputs == outputs and stride == 1
        self.skip = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        inner = functional.relu(self.norms[0](self.first(maps)))
        return functional.relu(self.norms[1](self.second(inner)) + self.skip(maps))


class ThinResNet(nn.Module):
    """Stem of stride 2, three blocks on maps of 7x7 and 4x4, average, a layer of 64 units with ReLU: Z (B, 64)."""

    out_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 2), Block(8, 16, 2), Block(16, 32, 1))
        self.last = nn.Linear(32, 64)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 64)."""
        maps = self.blocks(functional.relu(self.norm(self.stem(images))))
        return functional.relu(self.last(maps.mean((2, 3))))


def objective(seed: int) -> MultiTaskObjective:
    """Initial weights depend on `seed` alone."""
    torch.manual_seed(derive_seed(seed, "trial network"))
    model = MultiTaskModel(ThinResNet(), {task: LinearHead(64, 1) for task in TASKS}).train()
    loss, metrics = BinaryCrossEntropy(), attribute_metrics()
    specs = [TaskSpec(task, 1, "classification", loss, metrics) for task in TASKS]
    return MultiTaskObjective(model, specs, (1, 28, 28))


@torch.no_grad()
def accuracy(model: MultiTaskModel, data: Data) -> float:
    """Percent, mean over tasks, in evaluation mode."""
    model.eval()
    right = torch.zeros(len(TASKS))
    for rows in torch.arange(len(data.images)).split(1000):
        predictions = model(data.images[rows])
        found = torch.stack([predictions[task].view(-1) > 0 for task in TASKS], dim=1)
        right += (found.long() == data.labels[rows]).sum(0)
    model.train()
    return float(100 * right.mean() / len(data.images))
