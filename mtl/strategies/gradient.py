"""Strategies that combine task gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.aggregation import LEVELS, Aggregator, Combination, TaskGradients
from mtl.datasets.base import Batch
from mtl.errors import ConfigError
from mtl.gradients import (
    BATCH_AXES,
    FeatureJacobian,
    GhostGramian,
    GradientSource,
    GramianAverage,
    LastLayerJacobian,
    SketchGramian,
    TaskJacobian,
    set_gradients,
)
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

GRAMIANS = ("exact", "ghost", "features", "sketch")


class GradientStrategy(Strategy):
    """Train the shared parameters with sum_k w_k g_k, or with another combination of the task gradients g_k.

    Args:
        aggregator: Task gradients -> weights (m,) or a direction. Most methods need their Gramian (m, m) alone.
        level: Where task gradients are compared. `parameters`: all shared parameters, m backbone backwards.
            `features`: the shared representation, one backbone backward. `last_layer`: the last shared layer.
        batch_axis: At the feature level, `kept` compares whole (B, d) gradients, `summed` adds over the batch first.
        gramian: How inner products over the parameters are found: `exact` from the rows; `ghost`, equal up to rounding
            but without rows where the layers' sizes make that cheaper; `features`, those at the shared features instead
            (MGDA-UB's bound); `sketch`, an estimate from one more forward pass. See docs/gramians.md.
        ema: Weight in [0, 1) of the past in a moving average of the measured Gramians, which the weights are then
            computed from; 0 for none. For methods that need the Gramian alone.
        head_gradients: Heads receive their `own` task's gradient, or the `weighted` one.
        weights_every: Measure each n-th step and reuse the weights in between (one backbone backward). Only for
            methods that give weights.
        weighting: Optional loss weighting in front: task k's loss is scaled before its gradient is taken.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Cost of a step: 1 forward (2 with `sketch`), m head backwards, 1 optimizer step; 1 backbone backward, or m at
    `parameters` with `exact` and `ghost`.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        level: str = "parameters",
        batch_axis: str = "kept",
        gramian: str = "exact",
        ema: float = 0.0,
        head_gradients: str = "own",
        weights_every: int = 1,
        weighting: LossWeighting | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        check_choice("level", level, LEVELS)
        if level not in aggregator.levels:
            raise ConfigError(
                f"{type(aggregator).__name__} is not defined at `level = {level}`. Use "
                f"{' or '.join(f'level={name}' for name in aggregator.levels)}."
            )
        check_choice("batch_axis", batch_axis, BATCH_AXES)
        if batch_axis != "kept" and level != "features":
            raise ConfigError(f"`batch_axis = {batch_axis}` has no effect with `level = {level}`; use level=features.")
        check_choice("gramian", gramian, GRAMIANS)
        if gramian != "exact" and (level != "parameters" or aggregator.needs_rows):
            what = (
                f"`level = {level}`" if level != "parameters" else f"{type(aggregator).__name__}, which needs the rows"
            )
            raise ConfigError(f"`gramian = {gramian}` has no meaning with {what}; use gramian=exact.")
        self.average = GramianAverage(ema)
        if ema and aggregator.needs_rows:
            raise ConfigError(
                f"{type(aggregator).__name__} reads the task gradients themselves, of which `ema` keeps no average. "
                f"Found `ema = {ema}`; use ema=0."
            )
        check_choice("head_gradients", head_gradients, ("own", "weighted"))
        check_count("weights_every", weights_every)
        if not aggregator.gives_weights and (weights_every > 1 or head_gradients != "own"):
            raise ConfigError(
                f"{type(aggregator).__name__} gives a direction, not task weights that could be reused or applied to "
                f"heads. Found `weights_every = {weights_every}`, `head_gradients = {head_gradients}`; use 1 and own."
            )
        self.aggregator = aggregator
        self.level = level
        self.batch_axis = batch_axis
        self.gramian = gramian
        self.head_gradients = head_gradients
        self.weights_every = weights_every
        self.weighting = weighting
        self.clipping = Clipping(max_grad_norm)
        if "features" in (level, gramian) or gramian == "sketch":
            self.requirements = frozenset({Requirement.FEATURES})
        if gramian == "sketch":
            self.requirements |= {Requirement.FLOAT32}
        if gramian == "ghost" or level == "last_layer":
            self.requirements |= {Requirement.LAYERS}

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        self.aggregator.setup(self.objective.num_tasks, self.generator)
        own: list[torch.nn.Parameter] = []
        if self.weighting is not None:
            bind_weighting(self.weighting, self)
            own = self.weighting.trained_parameters()
        own_lr = self.weighting.lr if self.weighting is not None else None
        self.optimizers = [make_optimizer(parameter_groups(self.objective, own, own_lr))]
        self.source = self._make_source()
        if self.aggregator.needs_rows and self.level != "features":
            self.aggregator.allocate(self.source.rows)
        self._steps = 0
        self._cached: Tensor | None = None

    def _make_source(self) -> GradientSource:
        if self.level == "last_layer":
            return LastLayerJacobian(self.objective)
        if "features" in (self.level, self.gramian):
            return FeatureJacobian(self.objective, self.batch_axis)
        if self.gramian == "sketch":
            return SketchGramian(self.objective, self.generator)
        if self.gramian == "ghost":
            return GhostGramian(self.objective)
        return TaskJacobian(self.objective, ordered=self.aggregator.needs_rows)

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        source = self.source
        source.reset()  # of a step that raised: weights laid out for it, its passes
        evaluation = source.evaluate(batch)
        scales = self._scale_losses(evaluation)
        factors = list(scales.unbind()) if scales is not None else [None] * self.objective.num_tasks
        gramian: Tensor | None = None
        if self._cached is None or self._steps % self.weights_every == 0:
            gramian = self.average(source.measure(evaluation, factors))
            losses = evaluation.values.to("cpu", torch.float64)
            if scales is not None:
                losses = losses * scales.to(losses)
            seen = TaskGradients(gramian, losses, source.rows, source.point, source.batch)
            self._combine(self.aggregator.aggregate(seen))
        else:
            source.skip(evaluation, factors, self._cached)
        weights = self._cached
        self._write_heads(weights)
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        self._steps += 1
        count = source.count
        cost = StepCost(1 + count.forwards, count.heads, count.backbone, 1, evaluation.num_samples)
        measured = {**source.diagnostics, **self.average.diagnostics}
        source.reset()
        effective = weights if scales is None or weights is None else weights * scales.to(weights)
        front = self.weighting.diagnostics if self.weighting is not None else {}
        diagnostics = {**measured, **self.aggregator.diagnostics, **front, **self.clipping.report()}
        return StepReport(evaluation.values, cost, weights=effective, gramian=gramian, diagnostics=diagnostics)

    def _combine(self, found: Combination) -> None:
        """Write the shared gradient. Weights are kept for the steps that reuse them; a direction cannot be."""
        if found.direction is not None:
            self.source.write(found.direction)
            return
        assert found.weights is not None, "an aggregator gives weights or a direction"
        self._cached = check_weights(found.weights, self.objective.tasks)
        self.source.combine(self._cached)

    def _scale_losses(self, evaluation: Evaluation) -> Tensor | None:
        if self.weighting is None:
            return None
        return check_weights(self.weighting.weigh(evaluation.values), self.objective.tasks)

    def _write_heads(self, weights: Tensor | None) -> None:
        for k, gradients in enumerate(self.source.heads):
            if self.head_gradients == "weighted" and gradients:
                assert weights is not None  # checked in __init__
                torch._foreach_mul_(gradients, weights[k].item())
            set_gradients(self.objective.task_parameters(k), gradients)

    def end_epoch(self) -> None:
        """Tell the aggregator and the weighting."""
        self.aggregator.end_epoch()
        if self.weighting is not None:
            self.weighting.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return {
            "aggregator": dict(self.aggregator.state_dict()),
            "weighting": dict(self.weighting.state_dict()) if self.weighting is not None else None,
            "steps": self._steps,
            "cached": self._cached,
            "average": self.average.state_dict(),
        }

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.aggregator.load_state_dict(state["aggregator"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])
        self._steps = state["steps"]
        self._cached = state["cached"]
        self.average.load_state_dict(state["average"])
