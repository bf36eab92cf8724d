"""Groups that are given."""

from collections.abc import Sequence

from mtl.errors import ConfigError
from mtl.grouping.base import GROUP_ORDERS, Group, Grouping, shuffled
from mtl.validation import check_choice


class FixedGroups(Grouping):
    """Groups named in the configuration, the same for the whole run.

    Args:
        groups: Lists of task names, every task in exactly one; None for one group of all tasks, which is `uniform`.
        group_order: `fixed`: as listed; or `shuffled` for every batch.

    Source: common practice; the step on given groups is that of Pascal et al. 2021, arXiv:2109.11678.

    **Deviations.** No paper's method: the groups are the user's.
    """

    def __init__(self, groups: Sequence[Sequence[str]] | None = None, group_order: str = "fixed") -> None:
        super().__init__()
        if groups is not None:
            nested = not isinstance(groups, str) and all(not isinstance(group, str) for group in groups)
            if not nested or not groups or not all(groups):
                raise ConfigError(
                    "Parameter `groups` should be a list of lists of task names, none empty, or null for one group of "
                    f"all tasks. Found `groups = {groups!r}`."
                )
        check_choice("group_order", group_order, GROUP_ORDERS)
        self.named = None if groups is None else [list(group) for group in groups]
        self.group_order = group_order

    def meet(self, tasks: tuple[str, ...], kinds: tuple[str, ...]) -> None:  # noqa: ARG002
        """Find the named tasks.

        Raises:
            ConfigError: a name is unknown, missing or there twice.
        """
        named = [list(tasks)] if self.named is None else self.named
        if sorted(name for group in named for name in group) != sorted(tasks):
            raise ConfigError(
                f"Parameter `groups` should name each of the tasks {', '.join(tasks)} exactly once. "
                f"Found `groups = {named}`."
            )
        self.groups: list[Group] = [tuple(sorted(tasks.index(name) for name in group)) for group in named]

    def next_groups(self) -> list[Group]:
        """The groups, in their order or a new one."""
        self.diagnostics = {"num_groups": float(len(self.groups))}
        return self.groups if self.group_order == "fixed" else shuffled(self.groups, self.generator)
