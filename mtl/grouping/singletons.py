"""Every task alone."""

from mtl.grouping.base import Group, Grouping, shuffled
from mtl.validation import check_choice


class Singletons(Grouping):
    """Every task is a group of its own: one update after another (Pascal et al. 2021).

    Args:
        task_order: `fixed` (released code) or `shuffled` for every batch.

    Source: Pascal, Michiardi, Bost, Huet and Zuluaga, "Improved Optimization Strategies for Deep Multi-Task
    Networks", 2021, arXiv:2109.11678.

    **Deviations.** Paper: full text not available to us. Released code: PyTorch 1.2, whose `zero_grad` leaves zeros, so
    that a shared optimizer moves all heads in every sub-step (`zero_grads: zeros`). Ours: heads outside the group stay.
    """

    def __init__(self, task_order: str = "fixed") -> None:
        super().__init__()
        check_choice("task_order", task_order, ("fixed", "shuffled"))
        self.task_order = task_order

    def next_groups(self) -> list[Group]:
        """(0,), (1,), ..."""
        groups: list[Group] = [(task,) for task in range(self.num_tasks)]
        return groups if self.task_order == "fixed" else shuffled(groups, self.generator)
