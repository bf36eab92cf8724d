"""Random gradient weights."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.validation import check_choice


class Random(GramianWeighting):
    r"""Random gradient weighting (RGW; Lin et al. 2022, arXiv:2111.10603, Algorithm 2): new random weights every step.

    .. math:: w = \mathrm{softmax}(x), \qquad x \sim N(0, I)

    The gradient-level form of random loss weighting: only the shared parameters see the weights, every head is trained
    on its own loss. With `head_gradients: weighted` it is random loss weighting, at m times the cost.

    Args:
        total: What the weights sum to: `num_tasks` or `one`.

    Source: Lin, Ye, Zhang and Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning", TMLR 2022, arXiv:2111.10603, Algorithm 2.

    **Deviations.** TorchJD's `Random`: sum 1, hence 1/m of the step of a plain sum, from the global generator. Paper's
    text: not verified; that this is its Algorithm 2 is TorchJD's statement. Ours: sum m by default, so that a
    comparison with `uniform` is not one of learning rates; drawn from the strategy's generator.
    """

    def __init__(self, total: str = "num_tasks") -> None:
        super().__init__()
        check_choice("total", total, ("num_tasks", "one"))
        self.total = total
        self.generator: torch.Generator | None = None

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Take the generator."""
        self.generator = generator

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """New weights; neither gradients nor losses enter."""
        m = len(gramian)
        weights = torch.softmax(torch.randn(m, generator=self.generator, dtype=torch.float64), dim=0)
        return weights * (m if self.total == "num_tasks" else 1)
