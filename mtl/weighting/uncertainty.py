"""Uncertainty weighting."""

import torch
from torch import Tensor
from torch.nn import Parameter

from mtl.validation import check_choice, check_positive
from mtl.weighting.base import Scalarization

FORMS = ("kendall", "half")


class Uncertainty(Scalarization):
    r"""Homoscedastic uncertainty weighting (UW; Kendall, Gal and Cipolla 2018, arXiv:1705.07115, section 3.2).

    .. math:: \sum_k a_k e^{-s_k} L_k + \tfrac12 s_k

    where:

    - :math:`s_k = \log \sigma_k^2` is learned, one per task;
    - :math:`a_k` is 1/2 for a regression task and 1 for a classification task (form `kendall`), or 1/2 for every
      task (form `half`).

    Args:
        form: `kendall` or `half`.
        initial_log_variance: s at the start; 0 gives weights a_k.
        lr: Learning rate of s, > 0; None for that of the optimizer.

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics", CVPR 2018, arXiv:1705.07115, section 3.2.

    **Deviations.** Paper: form `kendall`. nash-mtl, FAMO, TorchJD, LibMTL: form `half` for every loss; LibMTL starts at
    -0.5 and decays s with the optimizer's weight decay. Ours: s is in a parameter group of its own, never decayed.
    """

    def __init__(self, form: str = "kendall", initial_log_variance: float = 0.0, lr: float | None = None) -> None:
        super().__init__()
        check_choice("form", form, FORMS)
        if lr is not None:
            check_positive("lr", lr)
        self.form = form
        self.initial_log_variance = float(initial_log_variance)
        self.lr = lr
        self.register_buffer("factors", torch.empty(0), persistent=False)

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """One log-variance per task."""
        half = [self.form == "half" or kind == "regression" for kind in kinds]
        self.factors = torch.tensor([0.5 if h else 1.0 for h in half])
        self.log_variance = Parameter(torch.full((len(tasks),), self.initial_log_variance))

    def forward(self, losses: Tensor) -> Tensor:
        """The scalar of the equation above."""
        s = self.log_variance
        return (self.factors * torch.exp(-s) * losses + 0.5 * s).sum()

    @torch.no_grad()
    def weigh(self, losses: Tensor) -> Tensor:
        """The derivatives of `forward`, written out: a third of the time of asking autograd, 2 % of a LeNet's step."""
        weights = self.factors * torch.exp(-self.log_variance)
        self.log_variance.grad = (0.5 - weights * losses).to(self.log_variance)
        return weights.to(losses)
