"""Data modules, the splits that they give, and the loader that makes batches of a split."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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


Rows = Tensor | slice
"""Samples of a split: int64 indices (B,) on the CPU, or a range."""
Augment = Callable[[Batch, torch.Generator], Batch]
"""A batch and a CPU generator -> the augmented batch, on the same device; draws from that generator only."""


class Split(ABC):
    """One split of a data set. The loader knows nothing else about data.

    Attributes:
        augment: Applied by the loader to every batch; None for none. Belongs to the training split.
    """

    augment: Augment | None

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where batches come out."""

    @abstractmethod
    def gather(self, rows: Rows) -> Batch:
        """The samples `rows`, in that order, without augmentation: a function of `rows` alone."""

    @abstractmethod
    def select(self, tasks: Sequence[str]) -> "Split":
        """The same samples with the targets of `tasks` only."""

    @abstractmethod
    def to(self, device: torch.device) -> "Split":
        """The same split with its batches on another device."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of everything that `gather` can give: two runs with the same value saw the same data."""


@dataclass(frozen=True)
class TensorSplit(Split):
    """A whole split in memory: inputs (N, ...) ready for the model, one target (N, ...) per task."""

    inputs: Tensor
    targets: Mapping[str, Tensor]
    augment: Augment | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.inputs.device

    def gather(self, rows: Rows) -> Batch:
        """Views for a range, copies for indices."""
        if isinstance(rows, slice):
            return Batch(self.inputs[rows], {name: target[rows] for name, target in self.targets.items()})
        rows = rows.to(self.device)
        targets = {name: target.index_select(0, rows) for name, target in self.targets.items()}
        return Batch(self.inputs.index_select(0, rows), targets)

    def to(self, device: torch.device) -> "TensorSplit":
        """The same split on another device."""
        targets = {name: target.to(device) for name, target in self.targets.items()}
        return replace(self, inputs=self.inputs.to(device), targets=targets)

    def select(self, tasks: Sequence[str]) -> "TensorSplit":
        """The same inputs with the targets of `tasks` only."""
        return replace(self, targets={name: self.targets[name] for name in tasks})

    def fingerprint(self) -> str:
        """SHA-256 over all inputs and targets."""
        digest = hashlib.sha256()
        for name, tensor in [("inputs", self.inputs), *sorted(self.targets.items())]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Loader:
    """Batches of a split by index reads: no per-sample Python.

    The order of an epoch is a function of (seed, epoch), the augmentation of a batch one of (seed, epoch, batch), so
    a position in training is two integers.

    Args:
        split: The data, already set to the training device.
        batch_size: Samples per batch, at least 1.
        shuffle: A new permutation for every epoch; otherwise the stored order.
        drop_last: Leave out the last batch when it is smaller than `batch_size`.
        seed: Origin of the permutations and of the augmentation.
    """

    def __init__(self, split: Split, batch_size: int, *, shuffle: bool, drop_last: bool, seed: int = 0) -> None:
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
            window = slice(index * self.batch_size, min((index + 1) * self.batch_size, len(self.split)))
            batch = self.split.gather(window if order is None else order[window])
            if self.split.augment is not None:
                generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch, index))
                batch = self.split.augment(batch, generator)
            yield batch

    def _order(self, epoch: int) -> Tensor | None:
        if not self.shuffle:
            return None
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "loader", epoch))
        return torch.randperm(len(self.split), generator=generator)


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

    note: str = ""
    """What a reader of results has to know about the data beyond the configuration; known after `check`."""

    def check(self) -> None:  # noqa: B027 - most data sets have nothing to check before they are read
        """Raise DataError if the files are missing or not the ones configured; called before anything is built.

        Reads a manifest at most.
        """

    @abstractmethod
    def load(self) -> Mapping[str, Split]:
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
