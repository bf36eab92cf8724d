"""Uniform weights."""

import torch
from torch import Tensor

from mtl.validation import check_choice
from mtl.weighting.base import LossWeighting


class Uniform(LossWeighting):
    """The sum (or mean) of the task losses: w_k = 1 (or 1/m).

    Also called linear scalarization, equal weighting, unitary scalarization, MTL-SUS (Pascal et al. 2021).

    Args:
        reduce: `sum` or `mean`.

    Source: common practice; defended by Kurin, De Palma, Kostrikov, Whiteson and Kumar, "In Defense of the Unitary
    Scalarization for Deep Multi-Task Learning", NeurIPS 2022, arXiv:2201.04122.

    **Deviations.** Sener and Koltun 2018: mean (1/T). Pascal et al. 2021, Kurin et al. 2022: sum. Ours: sum by default;
    a mean is the same with the learning rate of the shared parameters and heads divided by m under SGD.
    """

    def __init__(self, reduce: str = "sum") -> None:
        super().__init__()
        check_choice("reduce", reduce, ("sum", "mean"))
        self.reduce = reduce

    def weigh(self, losses: Tensor) -> Tensor:
        """Ones, or 1/m each."""
        return torch.full_like(losses, 1.0 if self.reduce == "sum" else 1.0 / len(losses))
