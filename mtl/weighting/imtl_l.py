"""The loss-balancing half of impartial multi-task learning."""

import torch
from torch import Tensor
from torch.nn import Parameter

from mtl.validation import check_positive
from mtl.weighting.base import Scalarization


class IMTLL(Scalarization):
    r"""IMTL-L (Liu et al. 2021, "Towards Impartial Multi-task Learning", ICLR, loss balance).

    .. math:: \sum_k e^{s_k} L_k - s_k, \qquad w_k = e^{s_k}

    where :math:`s_k` is learned, one per task, and :math:`L_k > 0`: for a loss <= 0 the scalar has no minimum in s. At
    the minimum :math:`e^{s_k} L_k = 1`, so that all scaled losses are equal. It is twice the uncertainty weighting of
    form `half` with s of the other sign; the two differ in the rate at which s learns.

    Args:
        initial_scale: s at the start; 0 gives weights 1.
        lr: Learning rate of s, > 0; None for that of the optimizer.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, "Towards Impartial Multi-task Learning", ICLR 2021, the
    loss balance.

    **Deviations.** Paper: the equation, for any base of the exponential; e here. Its other half, IMTL-G, balances
    gradients; the paper's IMTL is both. LibMTL's "IMTL" is both too; there s is in the main optimizer, with its weight
    decay. nash-mtl's and FAMO's "IMTL" is IMTL-G alone. TorchJD: as ours, s wherever the user puts it. Ours: s is in a
    parameter group of its own, never decayed.
    """

    def __init__(self, initial_scale: float = 0.0, lr: float | None = None) -> None:
        super().__init__()
        if lr is not None:
            check_positive("lr", lr)
        self.initial_scale = float(initial_scale)
        self.lr = lr

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """One scale per task."""
        self.log_scale = Parameter(torch.full((len(tasks),), self.initial_scale))

    def forward(self, losses: Tensor) -> Tensor:
        """The scalar of the equation above."""
        return (torch.exp(self.log_scale) * losses - self.log_scale).sum()
