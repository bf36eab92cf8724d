"""SDMGrad."""

import torch
from torch import Tensor

from mtl.aggregation.cross_gramian import CrossGramianWeighting
from mtl.aggregation.solvers.simplex import project_to_simplex
from mtl.errors import ConfigError
from mtl.validation import check_choice, check_count, check_fraction, check_non_negative, check_positive


class SDMGrad(CrossGramianWeighting):
    r"""Stochastic direction-oriented multi-objective gradient descent (Xiao, Ban and Ji 2023, arXiv:2305.18409).

    MGDA whose direction is pulled towards the average gradient :math:`g_0 = J^\top 1/m`. S steps from the last w,

    .. math:: v \leftarrow \mu v + C w + \lambda\, C \tfrac{1}{m} 1, \qquad w \leftarrow \Pi_\Delta(w - \beta v), \qquad
        C = J(z_1) J(z_2)^\top,

    with v = 0 before the first; then the update is
    :math:`c\,J(z_3)^\top (w + \lambda \tfrac{1}{m} 1) / (1 + \lambda)`.
    lambda = 0 is MGDA on samples; a large lambda is the average.

    Args:
        regularization: lambda >= 0; 0.3 in the released scripts, 0.6 its class default.
        iterations: S >= 1; 20 in the released code.
        lr: beta > 0; 10 in the released code, 5 in LibMTL.
        momentum: mu in [0, 1); 0.5 in both.
        normalization: `mean_norm` divides C by the squared mean of the roots of its diagonal (both), which makes beta
            free of scale; `none`. A diagonal entry of two samples can be negative and counts as 0. Without a positive
            one C stays as it is, counted in `unscaled_total`.
        total: c: `num_tasks` (released code, "to match the sum loss") or `one` (LibMTL).

    Source: Xiao, Ban and Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
    NeurIPS 2023, arXiv:2305.18409.

    **Deviations.** Paper: full text not available to us; rules from the released code; section 6.1 has the scaling by
    `mean_norm`, as TorchJD's documentation says. Released code: meant for three batches, but its three gradient
    matrices are one tensor, three times, so that C and the update all come from the last batch; heads receive the sum
    over the three batches; its roots are of the diagonal + 1e-4, NaN below that; the norm of the shared gradient is
    clipped to 1. LibMTL: three matrices, negative diagonal entries as 0, 1e-8 added to the divisor, no clipping; three
    times the data an epoch. Ours: three parts of one batch, no constant added; heads by `head_samples` and clipping by
    `max_grad_norm` of the strategy. Its objective sampling (SDMGrad-OS) is not there.
    """

    weights: Tensor
    unscaled: Tensor

    def __init__(
        self,
        regularization: float = 0.3,
        iterations: int = 20,
        lr: float = 10.0,
        momentum: float = 0.5,
        normalization: str = "mean_norm",
        total: str = "num_tasks",
    ) -> None:
        super().__init__()
        check_non_negative("regularization", regularization)
        check_count("iterations", iterations)
        check_positive("lr", lr)
        check_fraction("momentum", momentum)
        if momentum == 1:
            raise ConfigError("Parameter `momentum` should be a number in [0, 1). Found `momentum = 1`.")
        check_choice("normalization", normalization, ("mean_norm", "none"))
        check_choice("total", total, ("one", "num_tasks"))
        self.regularization = regularization
        self.iterations = iterations
        self.lr = lr
        self.momentum = momentum
        self.normalization = normalization
        self.total = total
        self.register_buffer("unscaled", torch.zeros((), dtype=torch.int64))

    def setup(self, num_tasks: int) -> None:
        """Weights 1/m."""
        self.register_buffer("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def forward(self, cross: Tensor) -> Tensor:
        """S projected steps; the weights of the regularised direction."""
        m = len(cross)
        scaled = self._scale(cross) if self.normalization == "mean_norm" else cross
        pull = self.regularization * scaled.mean(dim=1)
        w, velocity = self.weights, torch.zeros_like(self.weights)
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + scaled @ w + pull
            w = project_to_simplex(w - self.lr * velocity)
        self.weights = w
        self.diagnostics = {"active_tasks": float((w > 0).sum()), "unscaled_total": float(self.unscaled)}
        used = (w + self.regularization / m) / (1 + self.regularization)
        return used * m if self.total == "num_tasks" else used

    def _scale(self, cross: Tensor) -> Tensor:
        scale = cross.diagonal().clamp_min(0).sqrt().mean() ** 2
        if scale > 0:
            return cross / scale
        self.unscaled += 1
        return cross
