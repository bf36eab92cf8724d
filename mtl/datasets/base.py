"""Data modules: the splits of a data set as tensors on the training device, and loaders that index them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.seeding import derive_seed
from mtl.tasks import TaskSpec


@dataclass(frozen=True)
class Batch:
    """One mini-batch: what the model reads and what each task has to predict.

    Attributes:
        inputs: (B, ...) float32, the same for every task.
        targets: Task name -> target (B, ...).
    """

    inputs: Tensor
    targets: Mapping[str, Tensor]

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self.inputs)

    def parts(self, count: int) -> tuple["Batch", ...]:
        """`count` disjoint parts in stored order, sizes differing by one at most; fewer if there are fewer samples."""
        count = min(count, self.num_samples)
        targets = {name: target.tensor_split(count) for name, target in self.targets.items()}
        return tuple(
            Batch(inputs, {name: parts[index] for name, parts in targets.items()})
            for index, inputs in enumerate(self.inputs.tensor_split(count))
        )


@dataclass(frozen=True)
class TensorSplit:
    """A whole split in memory: inputs (N, ...) ready for the model, one target (N, ...) per task."""

    inputs: Tensor
    targets: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> "TensorSplit":
        """The same split on another device."""
        return TensorSplit(self.inputs.to(device), {name: target.to(device) for name, target in self.targets.items()})

    def select(self, tasks: Sequence[str]) -> "TensorSplit":
        """The same inputs with the targets of `tasks` only."""
        return TensorSplit(self.inputs, {name: self.targets[name] for name in tasks})

    def fingerprint(self) -> str:
        """SHA-256 over all inputs and targets: two runs with the same value saw the same data."""
        digest = hashlib.sha256()
        for name, tensor in [("inputs", self.inputs), *sorted(self.targets.items())]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class TensorLoader:
    """Batches of an in-memory split by index reads: no per-sample Python, no copies between devices.

    The order of an epoch is a function of (seed, epoch) alone, so a position in training is two integers.

    Args:
        split: The data, already on the training device.
        batch_size: Samples per batch, at least 1.
        shuffle: A new permutation for every epoch; otherwise the stored order.
        drop_last: Leave out the last batch when it is smaller than `batch_size`.
        seed: Origin of the permutations.
    """

    def __init__(self, split: TensorSplit, batch_size: int, *, shuffle: bool, drop_last: bool, seed: int = 0) -> None:
        if drop_last and len(split) < batch_size:
            raise ConfigError(
                f"`batch_size = {batch_size}` with `drop_last = true` leaves no batch of {len(split)} samples. "
                f"Use a batch size of at most {len(split)}."
            )
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch number `start` on."""
        order = self._order(epoch)
        for index in range(start, len(self)):
            window = slice(index * self.batch_size, (index + 1) * self.batch_size)
            if order is None:
                targets = {name: target[window] for name, target in self.split.targets.items()}
                yield Batch(self.split.inputs[window], targets)
            else:
                rows = order[window]
                targets = {name: target.index_select(0, rows) for name, target in self.split.targets.items()}
                yield Batch(self.split.inputs.index_select(0, rows), targets)

    def _order(self, epoch: int) -> Tensor | None:
        if not self.shuffle:
            return None
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "loader", epoch))
        return torch.randperm(len(self.split), generator=generator).to(self.split.inputs.device)


class DataModule(ABC):
    """A data set with its tasks and splits.

    Constructing one checks its options and reads nothing; `load` reads. `tasks`, `input_shape` and `batch_size` are
    known before that, so a model and a strategy can be built and checked first.
    """

    tasks: tuple[TaskSpec, ...]
    input_shape: tuple[int, ...]
    """Shape of one sample of `Batch.inputs`, without the batch axis."""
    batch_size: int
    eval_batch_size: int
    drop_last: bool

    @abstractmethod
    def load(self) -> dict[str, TensorSplit]:
        """Read everything. Keys: "train", "test", and "val" where the protocol has a validation split."""


def select_tasks(specs: Sequence[TaskSpec], names: Sequence[str] | None) -> tuple[TaskSpec, ...]:
    """The tasks called `names`, in that order; all of them for None.

    Raises:
        ConfigError: an unknown, repeated or missing name.
    """
    if names is None:
        return tuple(specs)
    valid = {spec.name: spec for spec in specs}
    names = [names] if isinstance(names, str) else list(names)
    if not names or len(set(names)) != len(names) or any(name not in valid for name in names):
        raise ConfigError(
            f"Parameter `dataset.tasks` should be a list of one or more different tasks out of {', '.join(valid)}. "
            f"Found `{names}`."
        )
    return tuple(valid[name] for name in names)
