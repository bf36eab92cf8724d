"""UPGrad: unconflicting projection of gradients."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from mtl.validation import check_choice, check_count, check_non_negative, check_positive


class UPGrad(GramianWeighting):
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

    **Deviations.** TorchJD, the authors' code: quadprog on the Gramian divided by its trace, `reg_eps`. Ours: an exact
    solver with certificate (`kkt_residual`) for all projections at once. A zero gradient stays 0.

    Cost: O(m^4) a pivot for all m projections.
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
        """Combined weights of the projections."""
        m = len(gramian)
        identity = torch.eye(m, dtype=gramian.dtype)
        if self.reg_eps > 0:
            gramian = gramian + self.reg_eps * gramian.trace() * identity
        solution = project_to_dual_cone(gramian, identity, self.tol, self.max_iter)
        self.unconverged += not solution.converged
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "kkt_residual": solution.residual,
            "unconverged_total": float(self.unconverged),
        }
        weights = solution.weights.sum(0)
        return weights / m if self.reduce == "mean" else weights
