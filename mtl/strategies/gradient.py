"""Strategies that weight task gradients by their inner products."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.aggregation import GramianWeighting
from mtl.datasets.base import Batch
from mtl.errors import ConfigError
from mtl.gradients import BATCH_AXES, FeatureJacobian, GradientSource, LastLayerJacobian, TaskJacobian
from mtl.objective import Evaluation
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    Requirement,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    parameter_groups,
)
from mtl.strategies.loss_weighting import bind_weighting
from mtl.validation import check_choice, check_count
from mtl.weighting import LossWeighting

LEVELS = ("parameters", "features", "last_layer")


class GradientStrategy(Strategy):
    """Train the shared parameters with sum_k w_k g_k, where w comes from the Gramian of the task gradients.

    Args:
        aggregator: Gramian (m, m) and losses (m,) -> weights (m,).
        level: Where task gradients are compared. `parameters`: all shared parameters, m backbone backwards.
            `features`: the shared representation, one backbone backward. `last_layer`: the last shared layer.
        batch_axis: At the feature level, `kept` compares whole (B, d) gradients, `summed` adds over the batch first.
        head_gradients: Heads receive their `own` task's gradient, or the `weighted` one.
        weights_every: Measure the Gramian each n-th step and reuse the weights in between (one backbone backward).
        weighting: Optional loss weighting in front: task k's loss is scaled before its gradient is taken.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Cost of a step: 1 forward, m head backwards, 1 optimizer step; m backbone backwards at `parameters`, else 1.
    """

    def __init__(
        self,
        aggregator: GramianWeighting,
        level: str = "parameters",
        batch_axis: str = "kept",
        head_gradients: str = "own",
        weights_every: int = 1,
        weighting: LossWeighting | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        check_choice("level", level, LEVELS)
        check_choice("batch_axis", batch_axis, BATCH_AXES)
        if batch_axis != "kept" and level != "features":
            raise ConfigError(f"`batch_axis = {batch_axis}` has no effect with `level = {level}`; use level=features.")
        check_choice("head_gradients", head_gradients, ("own", "weighted"))
        check_count("weights_every", weights_every)
        self.aggregator = aggregator
        self.level = level
        self.batch_axis = batch_axis
        self.head_gradients = head_gradients
        self.weights_every = weights_every
        self.weighting = weighting
        self.clipping = Clipping(max_grad_norm)
        if level == "features":
            self.requirements = frozenset({Requirement.FEATURES})

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        self.aggregator.setup(self.objective.num_tasks, self.generator)
        own: list[torch.nn.Parameter] = []
        if self.weighting is not None:
            bind_weighting(self.weighting, self)
            own = self.weighting.trained_parameters()
        own_lr = self.weighting.lr if self.weighting is not None else None
        self.optimizers = [make_optimizer(parameter_groups(self.objective, own, own_lr))]
        self.source = self._make_source()
        self._steps = 0
        self._cached: Tensor | None = None

    def _make_source(self) -> GradientSource:
        if self.level == "parameters":
            return TaskJacobian(self.objective)
        if self.level == "features":
            return FeatureJacobian(self.objective, self.batch_axis)
        return LastLayerJacobian(self.objective)

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        evaluation = self.objective.evaluate(batch)
        scales = self._scale_losses(evaluation)
        source = self.source
        gramian: Tensor | None = None
        if self._cached is None or self._steps % self.weights_every == 0:
            gramian = source.measure(evaluation, list(scales.unbind()) if scales is not None else self._ones)
            losses = evaluation.values.to("cpu", torch.float64)
            if scales is not None:
                losses = losses * scales.to(losses)
            self._cached = check_weights(self.aggregator(gramian, losses).detach(), self.objective.tasks)
            source.combine(self._cached)
        else:
            source.skip(evaluation, list(scales.unbind()) if scales is not None else self._ones, self._cached)
        weights = self._cached
        self._write_heads(weights)
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        self._steps += 1
        cost = StepCost(1, source.count.heads, source.count.backbone, 1, evaluation.num_samples)
        source.reset()
        effective = weights if scales is None else weights * scales.to(weights)
        front = self.weighting.diagnostics if self.weighting is not None else {}
        diagnostics = {**self.aggregator.diagnostics, **front, **self.clipping.report()}
        return StepReport(evaluation.values, cost, weights=effective, gramian=gramian, diagnostics=diagnostics)

    @property
    def _ones(self) -> list[None]:
        return [None] * self.objective.num_tasks

    def _scale_losses(self, evaluation: Evaluation) -> Tensor | None:
        if self.weighting is None:
            return None
        return check_weights(self.weighting.weigh(evaluation.values), self.objective.tasks)

    def _write_heads(self, weights: Tensor) -> None:
        for k, gradients in enumerate(self.source.heads):
            if self.head_gradients == "weighted" and gradients:
                torch._foreach_mul_(gradients, weights[k].item())
            for parameter, gradient in zip(self.objective.task_parameters(k), gradients, strict=True):
                parameter.grad = gradient

    def end_epoch(self) -> None:
        """Tell the weighting."""
        if self.weighting is not None:
            self.weighting.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return {
            "aggregator": dict(self.aggregator.state_dict()),
            "weighting": dict(self.weighting.state_dict()) if self.weighting is not None else None,
            "steps": self._steps,
            "cached": self._cached,
        }

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.aggregator.load_state_dict(state["aggregator"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])
        self._steps = state["steps"]
        self._cached = state["cached"]
