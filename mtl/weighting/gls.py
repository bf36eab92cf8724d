"""Geometric loss strategy."""

import torch
from torch import Tensor

from mtl.validation import check_choice
from mtl.weighting.base import Scalarization, require_losses


class GLS(Scalarization):
    r"""Geometric loss strategy (GLS; Chennupati et al. 2019, arXiv:1904.08492): the geometric mean of the losses.

    .. math:: G = \Big(\prod_k L_k\Big)^{1/m}, \qquad w_k = \frac{\partial G}{\partial L_k} = \frac{G}{m L_k}

    where :math:`L_k > 0` are the m losses. Weights are 1/m where all losses are equal; a factor on one loss changes the
    length of the update and not its direction.

    Args:
        scale: The trained scalar is G (`one`, published), or m G (`num_tasks`: weights are 1 where all losses are
            equal, as with `uniform`).

    Raises NonFiniteError for a loss <= 0.

    Source: Chennupati, Sistu, Yogamani and Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and Geometric
    Loss Strategy for Multi-Task Learning", CVPR Workshops 2019, arXiv:1904.08492.

    **Deviations.** Paper: G; its second strategy, which multiplies by the geometric mean of some chosen tasks, is not
    here. LibMTL: the m-th root of the product, which under- or overflows for many tasks; logs L_k / (m prod L) as
    weights. TorchJD: G through logarithms; a loss of 0 passes its check. Ours: G through logarithms.
    """

    def __init__(self, scale: str = "one") -> None:
        super().__init__()
        check_choice("scale", scale, ("one", "num_tasks"))
        self.scale = scale

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Take the names."""
        self.tasks = tasks

    def forward(self, losses: Tensor) -> Tensor:
        """The scalar of the equation above."""
        require_losses(losses > 0, losses, self.tasks, "GLS", "> 0")
        return torch.exp(torch.log(losses).mean()) * (len(losses) if self.scale == "num_tasks" else 1)
