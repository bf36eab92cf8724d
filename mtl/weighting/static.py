"""Given weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.validation import check_non_negative
from mtl.weighting.base import LossWeighting


class Static(LossWeighting):
    """Given weights: sum_k c_k L_k. The tuned-sum baseline (grid search over c) is a sweep over this.

    Args:
        weights: One number for all tasks, a list in task order, or a mapping task name -> weight. Each >= 0.

    **Deviations.** Sener and Koltun 2018 search c on the simplex and minimise (1/T) sum_k c_k L_k, with an extra 1/T;
    ours has no factor: give c_k / T to reproduce it under SGD.
    """

    def __init__(self, weights: float | Sequence[float] | Mapping[str, float] = 1.0) -> None:
        super().__init__()
        if isinstance(weights, Mapping):
            values = list(weights.values())
        elif isinstance(weights, Sequence):
            values = list(weights)
        else:
            values = [weights]
        for value in values:
            check_non_negative("weights", value)
        self.weights = weights
        self.register_buffer("vector", torch.empty(0), persistent=False)

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Match the weights with the tasks.

        Raises:
            ConfigError: a task has no weight, or a weight no task.
        """
        if isinstance(self.weights, Mapping):
            if set(self.weights) != set(tasks):
                raise ConfigError(
                    f"Parameter `weights` should name exactly the tasks {', '.join(tasks)}. "
                    f"Found `weights = {dict(self.weights)}`."
                )
            values = [float(self.weights[task]) for task in tasks]
        elif isinstance(self.weights, Sequence):
            values = [float(value) for value in self.weights]
            if len(values) != len(tasks):
                raise ConfigError(
                    f"Parameter `weights` should have one number for each of the {len(tasks)} tasks "
                    f"({', '.join(tasks)}). Found `weights = {values}`."
                )
        else:
            values = [float(self.weights)] * len(tasks)
        self.vector = torch.tensor(values, dtype=torch.float64)

    def weigh(self, losses: Tensor) -> Tensor:
        """The given weights."""
        return self.vector.to(losses)
