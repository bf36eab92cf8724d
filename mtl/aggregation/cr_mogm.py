"""CR-MOGM: smoothed weights of another method."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.validation import check_fraction


class CRMOGM(GramianWeighting):
    r"""Correlation-reduced stochastic gradient manipulation (Zhou et al. 2022, NeurIPS, Algorithm 1).

    .. math:: \lambda_t = \alpha \lambda_{t-1} + (1 - \alpha) \hat\lambda_t

    where :math:`\hat\lambda_t` (m,) are the weights of another method at step t: averaging makes weights and
    gradients of a batch less dependent.

    Args:
        weighting: The method whose weights are smoothed: MGDA, PCGrad or CAGrad in the paper.
        alpha: Weight of the past, in [0, 1]; 0 is the method itself, 1 stays with the first step's weights.

    Source: Zhou, Zhang, Jiang, Zhong, Gu and Zhu, "On the Convergence of Stochastic Multi-Objective Gradient
    Manipulation and Beyond", NeurIPS 2022, Algorithm 1.

    **Deviations.** Paper: alpha_t grows towards 1 as the learning rate falls (Corollary 1). TorchJD: a constant, 0.9.
    Ours: a constant; the average starts from the first step's weights.
    """

    average: Tensor

    def __init__(self, weighting: GramianWeighting, alpha: float = 0.9) -> None:
        super().__init__()
        check_fraction("alpha", alpha)
        self.weighting = weighting
        self.alpha = alpha

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """No average yet."""
        self.weighting.setup(num_tasks, generator)
        self.register_buffer("average", torch.full((num_tasks,), torch.nan, dtype=torch.float64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The average of the method's weights."""
        new = self.weighting(gramian, losses).detach()
        if torch.isnan(self.average).any():
            self.average.copy_(new)
        else:
            self.average.mul_(self.alpha).add_(new, alpha=1 - self.alpha)
        self.diagnostics = dict(self.weighting.diagnostics)
        return self.average.clone()

    def end_epoch(self) -> None:
        """Tell the method."""
        self.weighting.end_epoch()
