"""Groups by proximal inter-task affinity."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.grouping.base import Group, Grouping, check_partition, shuffled
from mtl.validation import check_bool, check_choice, check_count, check_fraction

ATTRIBUTIONS = ("definition", "released_code")


class SelectiveGroups(Grouping):
    r"""Selective task groups (Jeong and Yoon 2025, arXiv:2502.11986; rules from the released code).

    While the groups of a batch are updated one after another, the change of every task's loss on that batch is credited
    to the updated group G: with :math:`a_t = (1 - L_t^{after} / L_t^{before}) / |G|`, the affinity of every source s in
    G to every task t moves by

    .. math:: B_{st} \leftarrow (1 - \beta) B_{st} + \beta\, c

    where c is :math:`a_t` if t is outside G; :math:`a_t` if t = s and :math:`a_t \ge 0` (no change otherwise);
    :math:`a_t` if t is in G with :math:`a_t a_s \ge 0`; and :math:`-\max(a_t, a_s)` if their signs differ. Groups are
    the clusters that affinity propagation finds in B, its columns divided by the diagonal, made symmetric.

    Args:
        decay_rate: beta in [0, 1], the weight of the new value; 0.001 on NYUD and PASCAL, 0.0001 on Taskonomy.
        warmup_iterations: Batches with every task alone before the first clustering; 101 in the released code.
        attribution: `definition` credits a change to the group whose update caused it; `released_code` to the group
            that is updated next (off by one: the first group of a batch gets nothing, the last one's effect is lost).
        trailing_forward: Measure the losses once more after the last group of a batch, so that its effect counts;
            with False it is lost. The released code has none.
        single_group: A partition of one group is updated `once`, or `twice` on the same batch (released code).
        group_order: `shuffled` for every batch (released code) or `fixed`.
        convergence_iter: Of affinity propagation; 50 in the released code.
        max_retries: When the clustering finds nothing, try again with the preference raised by 100, at most so often;
            10 in the released code. Then the old groups stay. All of it is counted in the diagnostics.

    Needs m > 1 tasks to do anything; groups stay as they are until every diagonal entry of B is positive.

    Source: Jeong and Yoon, "Selective Task Group Updates for Multi-Task Optimization", ICLR 2025, arXiv:2502.11986.

    **Deviations.** Paper: the definition (our reading; the full text was not available to us). Released code: off by
    one, no trailing forward, a single group run twice. Ours: the definition; the released behaviour by options. The
    released code was written for scikit-learn 1.0.2, which returned no clusters without convergence; newer versions
    return degenerate ones, which we discard in the same way.
    """

    observes_losses = True
    affinity: Tensor

    def __init__(
        self,
        decay_rate: float = 0.001,
        warmup_iterations: int = 101,
        attribution: str = "definition",
        trailing_forward: bool = True,
        single_group: str = "once",
        group_order: str = "shuffled",
        convergence_iter: int = 50,
        max_retries: int = 10,
    ) -> None:
        super().__init__()
        check_fraction("decay_rate", decay_rate)
        check_count("warmup_iterations", warmup_iterations, minimum=0)
        check_choice("attribution", attribution, ATTRIBUTIONS)
        check_bool("trailing_forward", trailing_forward)
        check_choice("single_group", single_group, ("once", "twice"))
        check_choice("group_order", group_order, ("shuffled", "fixed"))
        check_count("convergence_iter", convergence_iter)
        check_count("max_retries", max_retries, minimum=0)
        self.decay_rate = decay_rate
        self.warmup_iterations = warmup_iterations
        self.attribution = attribution
        self.trailing_forward = trailing_forward
        self.single_group = single_group
        self.group_order = group_order
        self.convergence_iter = convergence_iter
        self.max_retries = max_retries

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Zero affinities, every task alone."""
        super().setup(num_tasks, generator)
        self.affinity = torch.zeros((num_tasks, num_tasks), dtype=torch.float64)
        self.groups: list[Group] = [(task,) for task in range(num_tasks)]
        self.iterations = 0
        self.retries = 0
        self.kept = 0
        self._previous: Tensor | None = None
        self._updated: Group | None = None

    def next_groups(self) -> list[Group]:
        """Cluster (after the warm-up), and put the groups in order."""
        if self.iterations >= self.warmup_iterations and self.num_tasks > 1:
            self._regroup()
        self.iterations += 1
        self._previous = self._updated = None
        groups = shuffled(self.groups, self.generator) if self.group_order == "shuffled" else list(self.groups)
        if len(groups) == 1 and self.single_group == "twice":
            groups = groups * 2
        self.diagnostics = {
            "num_groups": float(len(self.groups)),
            "clustering_retries_total": float(self.retries),
            "groups_kept_total": float(self.kept),
        }
        return groups

    def observe(self, losses: Tensor, group: Group | None) -> None:
        """Credit the change since the last call."""
        now = losses.to("cpu", torch.float64)
        credited = self._updated if self.attribution == "definition" else group
        if self._previous is not None and credited is not None:
            self._credit(credited, self._previous, now)
        self._previous, self._updated = now, group

    def _credit(self, group: Group, before: Tensor, after: Tensor) -> None:
        change = (1 - after / torch.where(before != 0, before, 1.0)) / len(group)
        inside = torch.zeros(self.num_tasks, dtype=torch.bool)
        inside[list(group)] = True
        for source in group:
            opposed = inside & (change * change[source] < 0)
            value = torch.where(opposed, -torch.maximum(change, change[source]), change)
            row = (1 - self.decay_rate) * self.affinity[source] + self.decay_rate * value
            if change[source] < 0:
                row[source] = self.affinity[source, source]
            self.affinity[source] = row

    def _regroup(self) -> None:
        diagonal = self.affinity.diagonal()
        if not (diagonal > 0).all():
            self.kept += 1
            return
        similarity = self.affinity / diagonal
        similarity = (similarity + similarity.T) / 2
        labels = self._cluster(similarity)
        if labels is None:
            self.kept += 1
            return
        members: dict[int, list[int]] = {}
        for task, label in enumerate(labels):
            members.setdefault(label, []).append(task)
        self.groups = check_partition([tuple(group) for group in members.values()], self.num_tasks)

    def _cluster(self, similarity: Tensor) -> list[int] | None:
        """Labels by affinity propagation; None when it does not converge within the retries."""
        from sklearn.cluster import AffinityPropagation
        from sklearn.exceptions import ConvergenceWarning

        preference = float(similarity.quantile(0.5))
        for attempt in range(self.max_retries + 1):
            model = AffinityPropagation(
                affinity="precomputed",
                preference=None if attempt == 0 else preference,
                convergence_iter=self.convergence_iter,
                random_state=0,
            )
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.fit(similarity.numpy())
            failed = any(issubclass(w.category, ConvergenceWarning) for w in caught)
            if not failed and len(model.cluster_centers_indices_) > 0:
                return [int(label) for label in model.labels_]
            preference += 100.0
            self.retries += attempt < self.max_retries
        return None

    def state_dict(self) -> dict[str, Any]:
        """Affinities, groups and counters."""
        return {
            "affinity": self.affinity,
            "groups": self.groups,
            "iterations": self.iterations,
            "retries": self.retries,
            "kept": self.kept,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.affinity = state["affinity"].clone()
        self.groups = check_partition([tuple(group) for group in state["groups"]], self.num_tasks)
        self.iterations = state["iterations"]
        self.retries = state["retries"]
        self.kept = state["kept"]
