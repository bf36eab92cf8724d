"""Projecting conflicting gradients."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.validation import check_choice


class PCGrad(GramianWeighting):
    r"""Gradient surgery (Yu et al. 2020, arXiv:2001.06782, Algorithm 1), in coefficients.

    For each task i, start from :math:`g_i` and go through the other tasks j in random order; wherever the current
    vector has a negative inner product with :math:`g_j`, remove its component along :math:`g_j`. Sum the results.

    Every intermediate vector is a combination :math:`c_i^\top J`, so only the coefficients C (m, m) and the products
    :math:`C G` are tracked: O(m^3) numbers, no vector of length n. All tasks i advance together, one j each.

    Args:
        reduce: `sum` (paper) or `mean` over tasks.
        order: Every task meets the others in a `random` order of its own (paper), or in the tasks' order (`fixed`).

    Source: Yu, Kumar, Gupta, Levine, Hausman and Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
    arXiv:2001.06782, Algorithm 1.

    **Deviations.** Paper and ours: sum, one random order per task. Released code: shuffles the losses and throws the
    result away, hence `fixed`. WeiChengTseng/Pytorch-PCGrad: `sum` gives the mean.
    AITSO_MTL (Pascal et al. 2021): projects the whole flattened vector, heads included, and takes the mean.
    SamsungLabs: one order for all tasks, 1e-5 in the denominator. CAGrad: unseeded orders. Ours: shared parameters;
    orders come from the strategy's generator; a gradient that is exactly zero is skipped, with no other guard.
    """

    def __init__(self, reduce: str = "sum", order: str = "random") -> None:
        super().__init__()
        check_choice("reduce", reduce, ("sum", "mean"))
        check_choice("order", order, ("random", "fixed"))
        self.reduce = reduce
        self.order = order
        self.generator: torch.Generator | None = None

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Take the generator."""
        self.generator = generator

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Column sums of the coefficients."""
        m = len(gramian)
        if gramian.min() >= 0:  # no conflict, hence no projection, whatever the orders
            self.diagnostics = {"conflicts": 0.0}
            return torch.full((m,), 1.0 if self.reduce == "sum" else 1 / m, dtype=gramian.dtype)
        if self.order == "fixed":
            orders = torch.arange(m).expand(m, m)
        else:
            orders = torch.stack([torch.randperm(m, generator=self.generator) for _ in range(m)])
        weights, conflicts = project(gramian, orders)
        self.diagnostics = {"conflicts": float(conflicts)}
        return weights if self.reduce == "sum" else weights / m


def project(gramian: Tensor, orders: Tensor) -> tuple[Tensor, int]:
    """PCGrad's weights for given orders.

    Args:
        gramian: G (m, m).
        orders: (m, m) integers; row i is the order in which task i meets the tasks (itself is passed over).

    Returns:
        Weights (m,) of the sum, and the number of projections made.
    """
    m = len(gramian)
    tasks = torch.arange(m)
    squares = gramian.diagonal()
    coefficients = torch.eye(m, dtype=gramian.dtype)
    products = gramian.clone()  # C G
    conflicts = 0
    for other in orders.T:
        inner = products[tasks, other]
        active = (inner < 0) & (tasks != other) & (squares[other] > 0)
        if not active.any():
            continue
        conflicts += int(active.sum())
        amount = torch.where(active, inner / squares[other], 0.0)
        coefficients[tasks, other] -= amount
        products -= amount[:, None] * gramian[other]
    return coefficients.sum(0), conflicts
