"""Strategies that weight losses: one forward, one backward, one step."""

from collections.abc import Mapping
from typing import Any

import torch

from mtl.datasets.base import Batch
from mtl.strategies.base import MakeOptimizer, StepCost, StepReport, Strategy, check_weights, parameter_groups
from mtl.weighting import LossWeighting


class LossWeightingStrategy(Strategy):
    """Train the weighted sum of the losses; heads receive the weighted gradient too.

    The weights act as factors of each loss's backward pass: one pass through the graph, no stacked losses.

    Args:
        weighting: Loss values -> weights.

    Cost of a step: 1 forward, m head backwards, 1 backbone backward, 1 optimizer step.
    """

    def __init__(self, weighting: LossWeighting) -> None:
        self.weighting = weighting

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        bind_weighting(self.weighting, self)
        groups = parameter_groups(self.objective, list(self.weighting.parameters()), self.weighting.lr)
        self.optimizers = [make_optimizer(groups)]

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        evaluation = self.objective.evaluate(batch)
        self._clear_gradients()
        weights = check_weights(self.weighting.weigh(evaluation.values), self.objective.tasks)
        torch.autograd.backward(evaluation.losses, list(weights.unbind()))
        self._check_gradients(batch)
        self.optimizers[0].step()
        self._clear_gradients()
        m = self.objective.num_tasks
        cost = StepCost(
            forwards=1, backwards=m, backbone_backwards=1, optimizer_steps=1, samples=evaluation.num_samples
        )
        return StepReport(evaluation.values, cost, weights=weights)

    def end_epoch(self) -> None:
        """Tell the weighting."""
        self.weighting.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return dict(self.weighting.state_dict())

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.weighting.load_state_dict(dict(state))


def bind_weighting(weighting: LossWeighting, strategy: Strategy) -> None:
    """Prepare a weighting for a strategy's tasks, generator and device."""
    specs = strategy.objective.specs
    weighting.setup(strategy.objective.tasks, tuple(spec.kind for spec in specs), strategy.generator)
    weighting.to(strategy.objective.device)
