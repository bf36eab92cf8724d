"""Groupings: which tasks are updated together."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Group = tuple[int, ...]
"""Indices of the tasks of one group, ascending."""
GROUP_ORDERS = ("fixed", "shuffled")


class Grouping(ABC):
    """A partition of the tasks, asked for before every batch.

    Attributes:
        observes_losses: Whether `observe` has to be called with the losses of all tasks before every update of a group;
            each call costs head forwards.
        trailing_forward: Whether to measure and observe once more after the last update; costs a whole forward.
        affinity: (m, m), row the source task, column the target; None if nothing of the kind is kept.
        diagnostics: Scalars about the last partition.
    """

    observes_losses: bool = False
    trailing_forward: bool = False
    affinity: Tensor | None = None
    diagnostics: dict[str, float]

    def __init__(self) -> None:
        self.diagnostics = {}

    def meet(self, tasks: tuple[str, ...], kinds: tuple[str, ...]) -> None:  # noqa: B027 - most groupings count only
        """Take notice of the tasks, once, before `setup`.

        Args:
            tasks: Their names.
            kinds: "classification" or "regression" for each.

        Raises:
            ConfigError: an option does not fit them.
        """

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Prepare for m tasks; `generator` is the only source of randomness."""
        self.num_tasks = num_tasks
        self.generator = generator

    @abstractmethod
    def next_groups(self) -> list[Group]:
        """The groups for the next batch, in the order of their updates."""

    def observe(self, losses: Tensor, group: Group | None) -> None:  # noqa: B027 - most groupings look at nothing
        """Take notice of the losses (m,) at this point of the batch.

        Args:
            losses: Of all tasks, measured on the current batch.
            group: The group that is updated next; None after the last update.
        """

    def end_epoch(self) -> None:  # noqa: B027 - most groupings have nothing to do
        """Called after the last step of every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next partition depends on, besides the generator."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        assert not state


def check_partition(groups: list[Group], num_tasks: int) -> list[Group]:
    """Assert that `groups` contains every task once."""
    assert sorted(task for group in groups for task in group) == list(range(num_tasks)), groups
    return groups


def shuffled(groups: list[Group], generator: torch.Generator) -> list[Group]:
    """`groups` in random order."""
    return [groups[index] for index in torch.randperm(len(groups), generator=generator).tolist()]
