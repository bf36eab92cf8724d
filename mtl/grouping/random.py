"""Random groups."""

from collections.abc import Mapping
from typing import Any

import torch

from mtl.grouping.base import Group, Grouping, check_partition
from mtl.validation import check_choice, check_count

REGROUPINGS = ("run", "epoch", "step")


class RandomGroups(Grouping):
    """Random task grouping (Pascal et al. 2021): ceil(m / s) groups of at most s tasks, drawn without replacement.

    Args:
        group_size: s, at least 1. With s = 1 every task is alone, in its own order (released code); with s >= m all
            tasks are one group, which is `uniform`.
        regroup_every: `run` (released code: once, at the start), `epoch` or `step`.

    Source: Pascal, Michiardi, Bost, Huet and Zuluaga, "Improved Optimization Strategies for Deep Multi-Task
    Networks", 2021, arXiv:2109.11678, task grouping of the released code.

    **Deviations.** Released code: drawn from NumPy's generator while `--seed` seeds PyTorch only, so groups differ
    between runs of one seed. Ours: from the strategy's generator; the groups are logged and part of its state.
    """

    def __init__(self, group_size: int = 2, regroup_every: str = "run") -> None:
        super().__init__()
        check_count("group_size", group_size)
        check_choice("regroup_every", regroup_every, REGROUPINGS)
        self.group_size = group_size
        self.regroup_every = regroup_every

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Draw the first groups."""
        super().setup(num_tasks, generator)
        self.groups = self._draw()

    def next_groups(self) -> list[Group]:
        """The groups in force, in the order they were drawn."""
        if self.regroup_every == "step":
            self.groups = self._draw()
        self.diagnostics = {"num_groups": float(len(self.groups))}
        return self.groups

    def end_epoch(self) -> None:
        """Draw new groups, if they last an epoch."""
        if self.regroup_every == "epoch":
            self.groups = self._draw()

    def state_dict(self) -> dict[str, Any]:
        """The groups in force."""
        return {"groups": self.groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the same groups."""
        self.groups = check_partition([tuple(group) for group in state["groups"]], self.num_tasks)

    def _draw(self) -> list[Group]:
        size = self.group_size
        if size == 1:
            return [(task,) for task in range(self.num_tasks)]
        order = torch.randperm(self.num_tasks, generator=self.generator).tolist()
        pieces = [order[start : start + size] for start in range(0, self.num_tasks, size)]
        return check_partition([tuple(sorted(piece)) for piece in pieces], self.num_tasks)
