"""What Nash-MTL and FairGrad share: weights with G a = a^(-p), the norm of the update limited."""

import math
from abc import ABC

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.bargaining import bargain
from mtl.validation import check_count, check_non_negative, check_positive


class Bargaining(GramianWeighting, ABC):
    """Solves G a = a^(-power), a > 0, by element; scales a so that the norm of J^T a is at most `max_norm`.

    Args:
        power: p > 0; 1 is the Nash bargaining solution.
        max_norm: Limit of the norm of the update, >= 0; 0 is without limit.
        tol: Residual that a solve has to meet beyond rounding, > 0.
        max_iter: Limit of Newton steps, at least 1.
    """

    unconverged: Tensor
    stationary: Tensor
    left_out: Tensor

    def __init__(self, power: float, max_norm: float, tol: float, max_iter: int) -> None:
        super().__init__()
        check_non_negative("max_norm", max_norm)
        check_positive("tol", tol)
        check_count("max_iter", max_iter)
        self.power = power
        self.max_norm = max_norm
        self.tol = tol
        self.max_iter = max_iter
        for name in ("unconverged", "stationary", "left_out"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """The solution, its norm limited."""
        solution = bargain(gramian, self.power, self.tol, self.max_iter)
        if solution.stationary or solution.left_out or not solution.converged:
            self.unconverged += not solution.converged
            self.stationary += solution.stationary
            self.left_out += solution.left_out
        norm = math.sqrt(max((solution.weights @ gramian @ solution.weights).item(), 0.0))
        clip = self.max_norm / norm if 0 < self.max_norm < norm else 1.0
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "residual": solution.residual,
            "update_norm": norm,
            "clip_factor": clip,
            "weight_sum": solution.weights.sum().item() * clip,
            "unconverged_total": float(self.unconverged),
            "stationary_total": float(self.stationary),
            "left_out_total": float(self.left_out),
        }
        return solution.weights * clip
