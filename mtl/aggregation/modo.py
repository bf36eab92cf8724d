"""MoDo."""

import torch
from torch import Tensor

from mtl.aggregation.cross_gramian import CrossGramianWeighting
from mtl.aggregation.solvers.simplex import project_to_simplex
from mtl.validation import check_non_negative, check_positive


class MoDo(CrossGramianWeighting):
    r"""Multi-objective gradient with double sampling (Chen et al. 2023, arXiv:2305.20057).

    .. math:: \lambda \leftarrow \Pi_\Delta\big(\lambda - \gamma\,(J(z_1) J(z_2)^\top \lambda + \rho \lambda)\big),
        \qquad \theta \leftarrow \theta - \alpha\, J(z_3)^\top \lambda

    where :math:`z_1, z_2, z_3` are independent samples, J(z) is (m, n) and :math:`\Pi_\Delta` projects onto the
    simplex. The first part is one step of stochastic descent on MGDA's problem; lambda starts at 1/m and is kept.

    Args:
        gamma: Step size of lambda, > 0. 0.1 is the released code's default, 0.001 LibMTL's. It is not free of scale:
            the gradients enter as they are.
        rho: Weight of the squared norm of lambda, >= 0. 0.1 in both.

    Source: Chen, Fernando, Ying and Chen, "Three-Way Trade-Off in Multi-Objective Learning: Optimization,
    Generalization and Conflict-Avoidance", NeurIPS 2023, arXiv:2305.20057.

    **Deviations.** Paper: full text not available to us; equations from the released code; two samples and the mean of
    both in the update, as TorchJD reads eq. 2.9. Released code: three samples in one toy script, in the others two,
    with the update of shared parameters and heads from both (their mean in the toy, their sum in its LibMTL); its toy
    halves the batch size for that. LibMTL: three batches a step and as many steps an epoch as every other method, hence
    three times the data; heads receive a third of the sum over the three. Ours: three parts of one batch; two by
    `samples: 2`, heads by `head_samples` of the strategy.
    """

    weights: Tensor

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        check_positive("gamma", gamma)
        check_non_negative("rho", rho)
        self.gamma = gamma
        self.rho = rho

    def setup(self, num_tasks: int) -> None:
        """Lambda = 1/m."""
        self.register_buffer("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def forward(self, cross: Tensor) -> Tensor:
        """One projected step; the new lambda."""
        step = cross @ self.weights + self.rho * self.weights
        self.weights = project_to_simplex(self.weights - self.gamma * step)
        self.diagnostics = {"active_tasks": float((self.weights > 0).sum())}
        return self.weights
