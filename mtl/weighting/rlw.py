"""Random loss weighting."""

import torch
from torch import Tensor

from mtl.validation import check_choice
from mtl.weighting.base import LossWeighting

DISTRIBUTIONS = ("normal", "dirichlet")


class RLW(LossWeighting):
    """Random loss weighting (Lin et al. 2022, arXiv:2111.10603, Algorithm 1): new random weights every step.

    `normal`: w = softmax(x), x ~ N(0, I). `dirichlet`: w uniform on the simplex.

    Args:
        distribution: `normal` or `dirichlet`.
        total: What the weights sum to: `num_tasks` or `one`.

    Source: Lin, Ye, Zhang and Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning", TMLR 2022, arXiv:2111.10603, Algorithm 1.

    **Deviations.** Paper and nash-mtl: weights sum to 1, hence 1/m of the step of a plain sum. Ours: they sum to m by
    default, so that a comparison with `uniform` is not one of learning rates; `total: one` is the paper's.
    """

    def __init__(self, distribution: str = "normal", total: str = "num_tasks") -> None:
        super().__init__()
        check_choice("distribution", distribution, DISTRIBUTIONS)
        check_choice("total", total, ("num_tasks", "one"))
        self.distribution = distribution
        self.total = total
        self.generator: torch.Generator | None = None

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Take the generator."""
        self.generator = generator

    def weigh(self, losses: Tensor) -> Tensor:
        """New weights; the loss values do not enter."""
        m = len(losses)
        if self.distribution == "normal":
            weights = torch.softmax(torch.randn(m, generator=self.generator, dtype=torch.float64), dim=0)
        else:
            draws = -torch.log1p(-torch.rand(m, generator=self.generator, dtype=torch.float64))
            weights = draws / draws.sum()
        return (weights * (m if self.total == "num_tasks" else 1)).to(losses)
