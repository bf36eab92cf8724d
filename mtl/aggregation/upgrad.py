"""UPGrad: unconflicting projection of gradients."""

import torch
from torch import Tensor

from mtl.aggregation.dual_cone import DualCone


class UPGrad(DualCone):
    r"""Each gradient projected onto the dual cone of all, then combined (Quinton and Rey 2024, arXiv:2406.16232).

    .. math:: d = \frac1m \sum_k J^\top v_k, \qquad v_k = \arg\min_{v \ge e_k} v^\top G v

    where :math:`e_k` is the k-th unit vector: :math:`J^\top v_k` is the vector nearest to :math:`g_k` that has a
    non-negative inner product with every gradient. So has d.

    Args:
        reduce: `mean` (paper) or `sum`.
        reg_eps: Added to the diagonal of G as a fraction of its trace, >= 0. 0 is the definition; TorchJD's 1e-4 moves
            the result by up to 40 % where rows differ in scale.
        tol: Violation of the optimality conditions that a solve has to meet, > 0, relative to the gradients' lengths.
        max_iter: Limit of the solver, at least 1.

    Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv:2406.16232.

    **Deviations.** Released code (TorchJD): quadprog on the Gramian divided by its trace, `reg_eps`. Ours: an exact
    solver with certificate (`kkt_residual`) for all projections at once. A zero gradient stays 0.

    Cost: O(m^4) a pivot for all m projections.
    """

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Combined weights of the projections."""
        weights = self._project(gramian, torch.eye(len(gramian), dtype=gramian.dtype)).sum(0)
        return weights / len(gramian) if self.reduce == "mean" else weights
