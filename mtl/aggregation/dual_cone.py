"""What UPGrad and DualProj share: projections onto the dual cone of the task gradients, certified and counted."""

from abc import ABC

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from mtl.validation import check_choice, check_count, check_non_negative, check_positive


class DualCone(GramianWeighting, ABC):
    """Projects combinations of the task gradients onto {d : g_k . d >= 0 for all k}.

    Args:
        reduce: `mean` or `sum` over tasks.
        reg_eps: Added to the diagonal of G as a fraction of its trace, >= 0.
        tol: Violation of the optimality conditions that a solve has to meet, > 0, relative to the gradients' lengths.
        max_iter: Limit of the solver, at least 1.
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

    def _project(self, gramian: Tensor, start: Tensor) -> Tensor:
        """Weights (r, m) of the projections of the r combinations `start` (r, m)."""
        if self.reg_eps > 0:
            gramian = gramian + self.reg_eps * gramian.trace() * torch.eye(len(gramian), dtype=gramian.dtype)
        solution = project_to_dual_cone(gramian, start, self.tol, self.max_iter)
        if not solution.converged:
            self.unconverged += 1
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "kkt_residual": solution.residual,
            "unconverged_total": float(self.unconverged),
        }
        return solution.weights
