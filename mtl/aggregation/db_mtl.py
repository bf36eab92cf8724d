"""Dual balancing."""

import torch
from torch import Tensor

from mtl.aggregation.base import Aggregator, Combination, TaskGradients
from mtl.errors import ConfigError
from mtl.validation import check_fraction, check_non_negative


class DBMTL(Aggregator):
    r"""Gradient half of dual balancing (DB-MTL; Lin et al. 2023, arXiv:2308.12029).

    The task gradients are averaged over the steps and brought to the length of the longest one:

    .. math:: \hat g_k \leftarrow \beta_t\, \hat g_k + (1 - \beta_t)\, g_k, \qquad
        d = \max_j \lVert\hat g_j\rVert \sum_k \frac{\hat g_k}{\lVert\hat g_k\rVert}

    from :math:`\hat g = 0`, with :math:`\beta_t = \beta / t^{\sigma}` at step t = 1, 2, ... The other half of the
    method is the logarithm of the losses: the strategy's `weighting` in front, `mtl.weighting.SI`. d is no weighted sum
    of this step's gradients.

    Args:
        beta: Weight of the past, in [0, 1); 0: no average. 0.9 in LibMTL.
        beta_sigma: Its decay, >= 0. 0 in LibMTL.

    Memory: a second (m, n) next to the task gradients.

    Source: Lin, Jiang, Ye, Zhang, Chen, Chen, Liu and Kwok, "Dual-Balancing for Multi-Task Learning", 2023,
    arXiv:2308.12029.

    **Deviations.** Paper: its text was not verified. LibMTL (by the paper's first author): as above with log(L + 1e-8)
    and 1e-8 in the denominators, heads trained on their own log losses, weights logged as 1. Ours: log L, which is
    refused at L <= 0; an average of exactly zero is left out, counted in `left_out_total`.
    """

    levels = ("parameters",)
    gives_weights = False
    steps: Tensor
    left_out: Tensor
    average: Tensor

    def __init__(self, beta: float = 0.9, beta_sigma: float = 0.0) -> None:
        super().__init__()
        check_fraction("beta", beta)
        if beta == 1:
            raise ConfigError("Parameter `beta` should be below 1, or no gradient ever counts. Found `beta = 1`.")
        check_non_negative("beta_sigma", beta_sigma)
        self.beta = beta
        self.beta_sigma = beta_sigma

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Start counting."""
        for name in ("steps", "left_out"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def allocate(self, rows: Tensor) -> None:
        """Averages 0."""
        self.register_buffer("average", torch.zeros_like(rows))

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Average, then equal lengths."""
        self.steps += 1
        beta = self.beta / self.steps.item() ** self.beta_sigma
        self.average.mul_(beta).add_(gradients.rows, alpha=1 - beta)
        norms = torch.linalg.vector_norm(self.average, dim=1).to("cpu", torch.float64)
        live = norms > 0
        scales = torch.where(live, norms.max() / norms, 0.0)
        self.left_out += (~live).sum()
        self.diagnostics = {"largest_scale": scales.max().item(), "left_out_total": float(self.left_out)}
        return Combination(direction=torch.mv(self.average.T, scales.to(self.average)))
