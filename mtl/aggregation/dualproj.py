"""DualProj: projection of the average gradient onto the dual cone."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from mtl.validation import check_choice, check_count, check_non_negative, check_positive


class DualProj(GramianWeighting):
    r"""The vector without conflict nearest to the average gradient (Lopez-Paz and Ranzato 2017, arXiv:1706.08840).

    .. math:: d = J^\top v, \qquad v = \arg\min_{v \ge 1/m} v^\top G v

    GEM's projection (eq. 11 there), under the name and in the form that Quinton and Rey 2024 (arXiv:2406.16232) give it
    for multi-task learning. UPGrad projects first and averages afterwards.

    Args:
        reduce: Projects the `mean` of the gradients (paper), or their `sum`: m times the same direction.
        reg_eps: Added to the diagonal of G as a fraction of its trace, >= 0. 0 is the definition; TorchJD: 1e-4.
        tol: Violation of the optimality conditions that a solve has to meet, > 0, relative to the gradients' lengths.
        max_iter: Limit of the solver, at least 1.

    **Deviations.** GEM: projects the current task's gradient against those of remembered tasks, with a margin. TorchJD:
    quadprog on the Gramian divided by its trace, `reg_eps`. Ours: an exact solver with certificate (`kkt_residual`).
    """

    unconverged: Tensor

    def __init__(self, reduce: str = "mean", reg_eps: float = 0.0, tol: float = 1e-9, max_iter: int = 1000) -> None:
        super().__init__()
        check_choice("reduce", reduce, ("mean", "sum"))
        check_non_negative("reg_eps", reg_eps)
        check_positive("tol", tol)
        check_count("max_iter", max_iter)
        self.reduce = reduce
        self.reg_eps = reg_eps
        self.tol = tol
        self.max_iter = max_iter
        self.register_buffer("unconverged", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Weights of the projection."""
        m = len(gramian)
        if self.reg_eps > 0:
            gramian = gramian + self.reg_eps * gramian.trace() * torch.eye(m, dtype=gramian.dtype)
        start = torch.full((1, m), 1 / m if self.reduce == "mean" else 1.0, dtype=gramian.dtype)
        solution = project_to_dual_cone(gramian, start, self.tol, self.max_iter)
        self.unconverged += not solution.converged
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "kkt_residual": solution.residual,
            "unconverged_total": float(self.unconverged),
        }
        return solution.weights[0]
