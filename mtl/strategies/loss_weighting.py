"""Strategies that weight losses: one forward, one backward, one step."""

from collections.abc import Mapping
from typing import Any

import torch

from mtl.datasets.base import Batch
from mtl.errors import RequirementError
from mtl.seeding import global_states, replayed
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    parameter_groups,
)
from mtl.weighting import LossWeighting


class LossWeightingStrategy(Strategy):
    """Train the weighted sum of the losses; heads receive the weighted gradient too.

    The weights act as factors of each loss's backward pass: one pass through the graph, no stacked losses.

    Args:
        weighting: Loss values -> weights.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Cost of a step: 1 forward, m head backwards, 1 backbone backward, 1 optimizer step; one more forward for a weighting
    that needs the losses after the update. That one repeats the first one's dropout masks, leaves running statistics
    and the global generators as they are, and does not enter the reported losses.
    """

    def __init__(self, weighting: LossWeighting, max_grad_norm: float | None = None) -> None:
        self.weighting = weighting
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        bind_weighting(self.weighting, self, measures_after=True)
        groups = parameter_groups(self.objective, self.weighting.trained_parameters(), self.weighting.lr)
        self.optimizers = [make_optimizer(groups)]

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        looks_back = self.weighting.needs_losses_after
        states = global_states(self.objective.device) if looks_back else []
        evaluation = self.objective.evaluate(batch, one_backward=True)
        self._clear_gradients()
        weights = check_weights(self.weighting.weigh(evaluation.values), self.objective.tasks)
        torch.autograd.backward(evaluation.losses, list(weights.unbind()))
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        if looks_back:
            with replayed(states, self.objective.device):
                losses_after = self.objective.measure(batch)
            self.weighting.observe_after(losses_after)
        m = self.objective.num_tasks
        cost = StepCost(
            forwards=2 if looks_back else 1,
            backwards=m,
            backbone_backwards=1,
            optimizer_steps=1,
            samples=evaluation.num_samples,
        )
        diagnostics = {**self.weighting.diagnostics, **self.clipping.report()}
        return StepReport(evaluation.values, cost, weights=weights, diagnostics=diagnostics)

    def end_epoch(self) -> None:
        """Tell the weighting."""
        self.weighting.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return dict(self.weighting.state_dict())

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.weighting.load_state_dict(dict(state))


def bind_weighting(weighting: LossWeighting, strategy: Strategy, *, measures_after: bool = False) -> None:
    """Prepare a weighting for a strategy's tasks, generator and device.

    Args:
        weighting: To be set up.
        strategy: Set up itself.
        measures_after: Whether the strategy measures the losses after its update.

    Raises:
        RequirementError: the weighting needs those losses, and the strategy does not measure them.
    """
    if weighting.needs_losses_after and not measures_after:
        raise RequirementError(
            f"{type(weighting).__name__} needs the losses after the update, which {type(strategy).__name__} does not "
            "measure. Use it with mtl.strategies.LossWeightingStrategy, or another weighting here."
        )
    specs = strategy.objective.specs
    weighting.setup(strategy.objective.tasks, tuple(spec.kind for spec in specs), strategy.generator)
    weighting.to(strategy.objective.device)
