"""Groups of unlike tasks."""

from mtl.grouping.base import GROUP_ORDERS, Group, Grouping, check_partition, shuffled
from mtl.validation import check_choice, check_count


class HeterogeneousGroups(Grouping):
    """Groups of unlike tasks: tasks of one kind are dealt to different groups, as far as their number allows.

    Ours: Pascal et al. 2021 find that updating tasks apart helps most where they differ in nature, and give no rule for
    forming groups by it. Tasks are sorted by kind (in the order in which kinds first appear, stable within a kind) and
    dealt in turn to ceil(m / s) groups. With tasks of one kind only it is a fixed partition by position.

    Args:
        group_size: s, at least 1: greatest number of tasks in a group.
        group_order: `fixed`, or `shuffled` for every batch.

    Source: ours; the remark is in Pascal et al. 2021, arXiv:2109.11678.

    **Deviations.** No paper's method: the rule is ours.
    """

    def __init__(self, group_size: int = 2, group_order: str = "fixed") -> None:
        super().__init__()
        check_count("group_size", group_size)
        check_choice("group_order", group_order, GROUP_ORDERS)
        self.group_size = group_size
        self.group_order = group_order

    def meet(self, tasks: tuple[str, ...], kinds: tuple[str, ...]) -> None:
        """Deal the tasks."""
        rank = {kind: position for position, kind in reversed(list(enumerate(kinds)))}
        order = sorted(range(len(tasks)), key=lambda task: rank[kinds[task]])
        count = -(-len(tasks) // self.group_size)
        self.groups: list[Group] = check_partition([tuple(sorted(order[g::count])) for g in range(count)], len(tasks))

    def next_groups(self) -> list[Group]:
        """The groups, in their order or a new one."""
        self.diagnostics = {"num_groups": float(len(self.groups))}
        return self.groups if self.group_order == "fixed" else shuffled(self.groups, self.generator)
