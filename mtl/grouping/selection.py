"""Which tasks to train together, from pairwise affinities and a budget of networks."""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.grouping.base import Group
from mtl.validation import check_bool, check_count, check_number

MAX_TASKS = 12
TIGHTENINGS = 20
"""Subgradient steps on the bound of a branch."""


@dataclass(frozen=True)
class Selection:
    """Networks to train, and which one serves each task.

    Attributes:
        groups: The tasks of each network, ascending; the networks in ascending order.
        serves: Per task, the index of the network whose output is used for it.
        score: Mean over tasks of the affinity from the other tasks of its network.
    """

    groups: tuple[Group, ...]
    serves: tuple[int, ...]
    score: float


def select_groups(affinity: Tensor, budget: int, *, overlap: bool = True, alone: float | None = None) -> Selection:
    r"""Choose at most `budget` groups that maximise the total affinity (Fifty et al. 2021).

    In a group g, task j scores :math:`\frac{1}{|g| - 1} \sum_{i \in g, i \ne j} Z_{i \to j}`; a task is served by the
    chosen group that scores best for it, and the mean over tasks is maximised. Exact, by branch and bound.

    Args:
        affinity: Z (m, m), row i the source, 2 <= m <= 12. The diagonal is not used.
        budget: Number of networks, at least 1.
        overlap: Whether a task may be trained in several networks (as in the paper); otherwise a partition.
        alone: Score of a task that is trained alone; None forbids it.

    Returns:
        The best selection; the first found of equals, groups taken in the order of their sizes.

    Raises:
        ConfigError: wrong arguments, or no selection that serves every task.

    **Deviations.** Paper: full text not available to us. Released code: the same score, exhaustive; a task alone counts
    -10^6. Its dictionaries have the target first. Ours: None in that place, which cannot be outweighed; a partition by
    option.
    """
    _check(affinity, budget, overlap, alone)
    groups, table = _score_groups(affinity.to("cpu", torch.float64), alone)
    chosen = sorted(_Search(groups, table, overlap).run(budget), key=groups.__getitem__)
    best, serves = table[chosen].max(0) if chosen else (torch.full((1,), -torch.inf), torch.zeros(1))
    if not torch.isfinite(best).all():
        raise ConfigError(
            f"No {budget} group(s) of at least two tasks serve all {len(affinity)} tasks without overlap. Allow "
            "`overlap`, give `alone` a score, or change `budget`."
        )
    used = sorted({int(k) for k in serves})
    return Selection(
        groups=tuple(groups[chosen[k]] for k in used),
        serves=tuple(used.index(int(k)) for k in serves),
        score=float(best.mean().item()),
    )


def _check(affinity: Tensor, budget: int, overlap: bool, alone: float | None) -> None:
    check_count("budget", budget)
    check_bool("overlap", overlap)
    if alone is not None:
        check_number("alone", alone)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1] or not 2 <= len(affinity) <= MAX_TASKS:
        raise ConfigError(
            f"Parameter `affinity` should be a square matrix of 2 to {MAX_TASKS} tasks (every subset of them is "
            f"looked at). Found shape {tuple(affinity.shape)}."
        )
    off_diagonal = ~torch.eye(len(affinity), dtype=torch.bool, device=affinity.device)
    if not torch.isfinite(affinity[off_diagonal]).all():
        raise ConfigError("Parameter `affinity` should be finite off its diagonal. Measure every pair first.")


def _score_groups(affinity: Tensor, alone: float | None) -> tuple[list[Group], Tensor]:
    """All groups in the order of their sizes, and their scores (groups, m), -inf for tasks outside."""
    m = len(affinity)
    affinity = affinity.clone().fill_diagonal_(0.0)
    groups = [group for size in range(1 if alone is not None else 2, m + 1) for group in combinations(range(m), size)]
    table = torch.full((len(groups), m), -torch.inf, dtype=torch.float64)
    for row, group in zip(table, groups, strict=True):
        inside = list(group)
        if len(group) == 1:
            assert alone is not None
            row[inside] = alone
            continue
        block = affinity[inside][:, inside]
        row[inside] = block.sum(0) / (len(group) - 1)
    return groups, table


class _Search:
    r"""Branch and bound over sets of groups.

    The bound is that of the p-median problem's Lagrangian: for any levels :math:`\lambda_j` at least as high as what
    task j has already, a selection of r more groups is worth at most :math:`\sum_j \lambda_j` plus the r largest
    :math:`\sum_j \max(0, s_{gj} - \lambda_j)`.
    """

    def __init__(self, groups: list[Group], table: Tensor, overlap: bool) -> None:
        m = table.shape[1]
        self.groups = groups
        self.members = torch.isfinite(table)
        finite = table[self.members]
        low, high = float(finite.min()), float(finite.max())
        self.floor = m * low - (m - 1) * high - 1  # of a task without network: one of them is worse than any cover
        self.table = torch.where(self.members, table, self.floor)
        self.overlap = overlap
        self.best_value = -torch.inf
        self.best: list[int] = []

    def run(self, budget: int) -> list[int]:
        """Indices of the best groups."""
        m = self.table.shape[1]
        start = torch.full((m,), self.floor, dtype=torch.float64)
        self._dive(start, budget)
        self._extend(start, [], torch.arange(len(self.groups)), budget, self.table.amax(0))
        return self.best

    def _dive(self, served: Tensor, budget: int) -> None:
        """A first selection: the largest gain again and again."""
        chosen: list[int] = []
        free = torch.ones(len(self.groups), dtype=torch.bool)
        for _ in range(budget):
            gains = (self.table - served).clamp_min(0).sum(1).masked_fill(~free, -1.0)
            index = int(gains.argmax())
            if gains[index] <= 0:
                break
            chosen.append(index)
            served = torch.maximum(served, self.table[index])
            if not self.overlap:
                free &= ~(self.members & self.members[index]).any(1)
        self.best_value, self.best = float(served.sum()), chosen

    def _extend(self, served: Tensor, chosen: list[int], candidates: Tensor, left: int, levels: Tensor) -> None:
        value = float(served.sum())
        if value > self.best_value:
            self.best_value, self.best = value, chosen
        useful = (self.table[candidates] > served).any(1)
        candidates = candidates[useful]
        if left == 0 or len(candidates) == 0:
            return
        levels = self._tighten(torch.maximum(levels, served), served, candidates, left)
        gains, order = torch.sort(self._gains(levels, candidates), descending=True, stable=True)
        ahead = torch.cat([gains.new_zeros(1), gains.cumsum(0)])
        for position, index in enumerate(order.tolist()):
            bound = float(levels.sum() + ahead[min(position + left, len(gains))] - ahead[position])
            if bound <= self.best_value:
                return
            rest = candidates[order[position + 1 :]]
            if not self.overlap:
                rest = rest[~(self.members[rest] & self.members[candidates[index]]).any(1)]
            reached = torch.maximum(self.table[candidates[index]], served)
            self._extend(reached, [*chosen, int(candidates[index])], rest, left - 1, levels)

    def _gains(self, levels: Tensor, candidates: Tensor) -> Tensor:
        """What each candidate has above the levels, summed over tasks."""
        return (self.table[candidates] - levels).clamp_min(0).sum(1)

    def _tighten(self, levels: Tensor, served: Tensor, candidates: Tensor, left: int) -> Tensor:
        """Levels >= `served` with a low bound: sum of the levels plus the `left` largest gains above them."""
        best, lowest = levels, torch.inf
        for _ in range(TIGHTENINGS if left > 1 else 1):
            top, picked = self._gains(levels, candidates).topk(min(left, len(candidates)))
            bound = float(levels.sum() + top.sum())
            if bound < lowest:
                best, lowest = levels, bound
            slope = 1 - (self.table[candidates[picked]] > levels).sum(0).to(levels)
            steepness = float(slope @ slope)
            if bound <= self.best_value or steepness == 0:
                break
            levels = torch.maximum(levels - slope * ((bound - self.best_value) / steepness), served)
        return best
