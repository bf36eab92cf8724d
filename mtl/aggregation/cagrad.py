"""Conflict-averse gradient descent."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.conflict_averse import conflict_averse
from mtl.validation import check_bool, check_choice, check_count, check_non_negative, check_positive

RESCALES = ("none", "one_plus_c_squared", "one_plus_c")


class CAGrad(GramianWeighting):
    r"""Conflict-averse gradient descent (Liu et al. 2021, arXiv:2110.14048, eq. 3-4 and Algorithm 1).

    .. math:: \max_d \min_k\ g_k \cdot d \quad\text{subject to}\quad \lVert d - g_0\rVert \le c\,\lVert g_0\rVert,
        \qquad g_0 = \tfrac1m \sum_k g_k

    solved by its dual over the simplex, :math:`\min_w\ g_w \cdot g_0 + c \lVert g_0\rVert \lVert g_w\rVert` with
    :math:`g_w = J^\top w`; then :math:`d = g_0 + c\,\lVert g_0\rVert\, g_w / \lVert g_w\rVert`.

    Args:
        c: Radius relative to the average gradient, >= 0. 0.4 in the paper on NYUv2 and in the released code for it, 0.5
            in the paper's toy example; 0 is the average gradient; from 1 on, d may be 0.
        rescale: d is divided by 1 (`none`, the paper's Algorithm 1), by 1 + c^2 (`one_plus_c_squared`, the released
            code's mode 1 and default) or by 1 + c (`one_plus_c`, mode 2).
        match_sum: Multiply d by m, which makes it comparable with the gradient of the summed losses (released code).
        tol: Certificate that a solve has to meet, > 0: shortfall of a task relative to |g_k| |g0|.
        max_iter: Limit of the solver, at least 1.

    Source: Liu, Liu, Jin, Stone and Liu, "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
    arXiv:2110.14048, eq. 3-4 and Algorithm 1.

    **Deviations.** Paper: d itself. Released code: SLSQP with 1e-8 under the roots (45 to 84 % off where rows differ
    by 1e6 in scale), d m / (1 + c^2). LibMTL and SamsungLabs: without the factor m; LibMTL: c = 0.5. nash-mtl, FAMO:
    0.4. TorchJD: `none`, weights 0 where |g_w| < 1e-4. Ours: exact solver with certificate, default as the released
    code. Not defined elsewhere: a zero gradient counts in g0 but not in the minimum over tasks; g0 = 0 gives d = 0;
    where 0 is in the hull of the gradients and the ball does not bind, d is the projection of g0 onto the dual cone,
    counted in `stationary_total`.

    Cost: O(m^3) a task in the active set.
    """

    unconverged: Tensor
    stationary: Tensor

    def __init__(
        self,
        c: float = 0.4,
        rescale: str = "one_plus_c_squared",
        match_sum: bool = True,
        tol: float = 1e-9,
        max_iter: int = 1000,
    ) -> None:
        super().__init__()
        check_non_negative("c", c)
        check_choice("rescale", rescale, RESCALES)
        check_bool("match_sum", match_sum)
        check_positive("tol", tol)
        check_count("max_iter", max_iter)
        self.c = c
        self.factor = {"none": 1.0, "one_plus_c_squared": 1 / (1 + c * c), "one_plus_c": 1 / (1 + c)}[rescale]
        self.match_sum = match_sum
        self.tol = tol
        self.max_iter = max_iter
        self.register_buffer("unconverged", torch.zeros((), dtype=torch.int64))
        self.register_buffer("stationary", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """1/m plus the dual's share, scaled."""
        m = len(gramian)
        solution = conflict_averse(gramian, self.c, self.tol, self.max_iter)
        if solution.stationary or not solution.converged:
            self.unconverged += not solution.converged
            self.stationary += solution.stationary
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "duality_gap": solution.gap,
            "unconverged_total": float(self.unconverged),
            "stationary_total": float(self.stationary),
        }
        return (solution.extra + 1 / m) * (self.factor * (m if self.match_sum else 1))
