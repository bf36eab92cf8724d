"""DualProj: projection of the average gradient onto the dual cone."""

import torch
from torch import Tensor

from mtl.aggregation.dual_cone import DualCone


class DualProj(DualCone):
    r"""The vector without conflict nearest to the average gradient (Lopez-Paz and Ranzato 2017, arXiv:1706.08840).

    .. math:: d = J^\top v, \qquad v = \arg\min_{v \ge 1/m} v^\top G v

    GEM's projection (eq. 11 there), under the name and in the form that Quinton and Rey 2024 (arXiv:2406.16232) give it
    for multi-task learning. UPGrad projects first and averages afterwards.

    Args:
        reduce: Projects the `mean` of the gradients (paper), or their `sum`: m times the same direction.
        reg_eps: Added to the diagonal of G as a fraction of its trace, >= 0. 0 is the definition; TorchJD: 1e-4.
        tol: Violation of the optimality conditions that a solve has to meet, > 0, relative to the gradients' lengths.
        max_iter: Limit of the solver, at least 1.

    Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017,
    arXiv:1706.08840, eq. 11; Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024,
    arXiv:2406.16232.

    **Deviations.** GEM: projects the current task's gradient against those of remembered tasks, with a margin. Released
    code (TorchJD): quadprog on the Gramian divided by its trace, `reg_eps`. Ours: an exact solver with certificate
    (`kkt_residual`).
    """

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Weights of the projection."""
        m = len(gramian)
        start = torch.full((1, m), 1 / m if self.reduce == "mean" else 1.0, dtype=gramian.dtype)
        return self._project(gramian, start)[0]
