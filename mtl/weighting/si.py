"""Scale-invariant loss."""

import torch
from torch import Tensor

from mtl.weighting.base import Scalarization, require_losses


class SI(Scalarization):
    r"""Scale-invariant baseline (SI; Navon et al. 2022, arXiv:2202.01017): the sum of log losses.

    .. math:: \sum_k \log L_k, \qquad w_k = 1 / L_k

    where :math:`L_k > 0` are the m losses. A factor on a loss changes nothing. The weights have no fixed sum: they grow
    as the losses fall.

    Raises NonFiniteError for a loss <= 0.

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya, "Multi-Task Learning as a Bargaining Game",
    ICML 2022, arXiv:2202.01017, a baseline there.

    **Deviations.** Paper and nash-mtl: log L, NaN for a loss below 0. SamsungLabs: log(1 + L), which is another method.
    Ours: log L, and an error naming the task.
    """

    def __init__(self) -> None:
        super().__init__()

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Take the names."""
        self.tasks = tasks

    def forward(self, losses: Tensor) -> Tensor:
        """The scalar of the equation above."""
        require_losses(losses > 0, losses, self.tasks, "SI", "> 0")
        return torch.log(losses).sum()
