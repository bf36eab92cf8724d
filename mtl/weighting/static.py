"""Given weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.weighting.base import LossWeighting, check_all, match_tasks


class Static(LossWeighting):
    """Given weights: sum_k c_k L_k. The tuned-sum baseline (grid search over c) is a sweep over this.

    Args:
        weights: One number for all tasks, a list in task order, or a mapping task name -> weight. Each >= 0.

    Source: common practice; the grid search is a baseline of Sener and Koltun 2018, arXiv:1810.04650.

    **Deviations.** Sener and Koltun 2018 search c on the simplex and minimise (1/T) sum_k c_k L_k, with an extra 1/T;
    ours has no factor: give c_k / T to reproduce it under SGD.
    """

    def __init__(self, weights: float | Sequence[float] | Mapping[str, float] = 1.0) -> None:
        super().__init__()
        check_all("weights", weights)
        self.weights = weights
        self.register_buffer("vector", torch.empty(0), persistent=False)

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Match the weights with the tasks.

        Raises:
            ConfigError: a task has no weight, or a weight no task.
        """
        self.vector = torch.tensor(match_tasks("weights", self.weights, tasks), dtype=torch.float64)

    def weigh(self, losses: Tensor) -> Tensor:
        """The given weights."""
        return self.vector.to(losses)
