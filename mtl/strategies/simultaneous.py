"""Strategies with optimizer states per task whose updates are taken at the same point and summed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from mtl.datasets.base import Batch
from mtl.errors import ConfigError, NonFiniteError, RequirementError, RunDirectoryError
from mtl.gradients import Tails, in_other_order, set_gradients, task_rows
from mtl.strategies.base import MakeOptimizer, StepCost, StepReport, Strategy, all_finite, find_bad_gradients
from mtl.validation import check_choice, check_fraction, check_positive

_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Axes of a convolution weight (outputs, channels, height, width) in the order in which gradients come, and back."""


class SimultaneousStrategy(Strategy):
    r"""Every task has an optimizer of its own; all task gradients are taken at one point, the updates are summed.

    With Adam this is our reconstruction of MAO (Hervella et al. 2024), and equals AdaTask (Yang et al. 2023,
    arXiv:2211.15055) on shared parameters:

    .. math:: \theta \leftarrow \theta - \sum_k \alpha\, \hat m_k / (\sqrt{\hat v_k} + \epsilon)

    The optimizers step on an update buffer of the parameters' shapes and not on the parameters, one task at a time as
    its gradient becomes known: any torch optimizer whose update does not depend on parameter values can be used, and no
    (m, n) gradient is stored.

    Args:
        reduce: `sum` or `mean` of the task updates.
        scope: `all`: with `mean`, heads move by 1/m of their update too. `shared_only`: heads move as under the plain
            optimizer. The same for `sum`.
        task_weights: Task name -> weight > 0 of its update, outside the normalisation; None for 1. Weights of losses
            would cancel, so a loss weighting cannot be combined with this strategy.
        first_moment: `per_task`, or `after_normalization`: one momentum buffer on the summed update, for optimizers
            without a first moment (RMSprop, Adagrad).
        momentum: In [0, 1), of `after_normalization`; with bias correction, for shared parameters only.
        weight_decay: `none` refuses an optimizer with weight decay (inside each task's gradient it would enter m
            times); `decoupled` applies it once, as AdamW does.

    No `max_grad_norm`: a step has no update gradient to clip. Each optimizer sees one task's gradient, whose scale a
    normalising rule removes anyway, and the sum of the updates is no gradient.

    Cost of a step: 1 forward, m head and m backbone backwards, m shared optimizer steps; m copies of the state.

    Source: Hervella, Rouco, Novo and Ortega, "Multi-Adaptive Optimization for multi-task learning with deep neural
    networks", Neural Networks 170, 2024; the rule on shared parameters: Yang et al. 2023, arXiv:2211.15055.

    **Deviations.** Paper: full text not available to us; results have to be labelled "MAO (reconstruction)". Released
    code: none. AdaTask's (EnnengYang/AdaTask): Adam; the sum on shared parameters, and heads under plain Adam. Other
    third-party code: sum in one repository, mean in its descendant. Ours: the sum with Adam; the alternatives A2
    (mean), B (base rule: `optimizer=`), C, D and E of our notes are the options above.
    """

    note = (
        "as MAO this is our reconstruction (the paper's full text was not available to us, and no code was released); "
        "with Adam its rule on shared parameters is AdaTask's"
    )

    def __init__(
        self,
        reduce: str = "sum",
        scope: str = "all",
        task_weights: Mapping[str, float] | None = None,
        first_moment: str = "per_task",
        momentum: float = 0.9,
        weight_decay: str = "none",
    ) -> None:
        check_choice("reduce", reduce, ("sum", "mean"))
        check_choice("scope", scope, ("all", "shared_only"))
        check_choice("first_moment", first_moment, ("per_task", "after_normalization"))
        check_choice("weight_decay", weight_decay, ("none", "decoupled"))
        check_fraction("momentum", momentum)
        if momentum == 1:
            raise ConfigError("Parameter `momentum` should be a number in [0, 1). Found `momentum = 1`.")
        for weight in (task_weights or {}).values():
            check_positive("task_weights", weight)
        self.reduce = reduce
        self.scope = scope
        self.task_weights = task_weights
        self.first_moment = first_moment
        self.momentum = momentum
        self.weight_decay = weight_decay

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        _probe(make_optimizer)
        turning = _is_elementwise(make_optimizer)
        objective = self.objective
        self._task_weights = self._weights()
        self._shared: list[Tensor] = list(objective.shared_parameters())
        self._orders = [
            _CHANNELS_LAST if turning and in_other_order(p) else tuple(range(p.dim())) for p in self._shared
        ]
        turned = [p.detach().permute(order) for p, order in zip(self._shared, self._orders, strict=True)]
        self._update = [torch.zeros(p.shape, dtype=p.dtype, device=p.device, requires_grad=True) for p in turned]
        self._heads = [objective.task_parameters(task) for task in objective.tasks]
        self._head_updates = [[torch.zeros_like(p).requires_grad_() for p in head] for head in self._heads]
        self.optimizers = []
        for head, weight in zip(self._head_updates, self._task_weights, strict=True):
            groups = [{"params": params} for params in (self._update, head) if params]
            optimizer = make_optimizer(groups)
            self.optimizers.append(optimizer)
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * weight
                self._decay = float(group.get("weight_decay", 0.0))
                group["weight_decay"] = 0.0
        if self._decay and self.weight_decay == "none":
            raise ConfigError(
                f"The optimizer has `weight_decay = {self._decay}`, which would act once per task. Set "
                "`strategy.weight_decay=decoupled` to apply it once per step, or `optimizer.weight_decay=0`."
            )
        self._momentum_buffers = (
            [torch.zeros_like(p) for p in self._shared] if self.first_moment == "after_normalization" else []
        )
        self._steps = 0
        self._tails = Tails(self._shared)

    def _weights(self) -> list[float]:
        tasks = self.objective.tasks
        if self.task_weights is None:
            return [1.0] * len(tasks)
        if set(self.task_weights) != set(tasks):
            raise ConfigError(
                f"Parameter `task_weights` should name exactly the tasks {', '.join(tasks)}. "
                f"Found `task_weights = {dict(self.task_weights)}`."
            )
        return [float(self.task_weights[task]) for task in tasks]

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        evaluation = self.objective.evaluate(batch, apart=True)
        m = self.objective.num_tasks
        try:
            for k, shared, head in task_rows(self.objective, evaluation, [None] * m, self._tails):
                turned = [gradient.permute(order) for gradient, order in zip(shared, self._orders, strict=True)]
                set_gradients([*self._update, *self._head_updates[k]], [*turned, *head])
                self.optimizers[k].step()
            self._check_updates(batch)
        except BaseException:
            self._empty()  # the next step would add to what these tasks have left
            raise
        self._steps += 1
        self._apply(1.0 / m if self.reduce == "mean" else 1.0)
        cost = StepCost(1, m, m, m, evaluation.num_samples)
        return StepReport(
            evaluation.values, cost, substeps=tuple((k,) for k in range(m)), diagnostics=self._tails.diagnostics
        )

    def stepped_tensors(self) -> list[Tensor]:
        """The update buffer, convolution weights with channels last: each task's optimizer adds its update to it."""
        return list(self._update)

    def _check_updates(self, batch: Batch) -> None:
        """Raise NonFiniteError if the summed update is NaN or infinite, before it reaches the parameters."""
        updates = [u.detach() for u in (*self._update, *(u for head in self._head_updates for u in head))]
        if all_finite(updates):
            return
        bad = find_bad_gradients(self.objective, batch)
        raise NonFiniteError(
            f"Non-finite update by {' and '.join(bad) or 'the optimizers'}, while the losses are finite. No parameter "
            "was changed with it, but the tasks' optimizer states were and are lost: continue from a checkpoint. Lower "
            "the learning rate, or look for a loss whose derivative is not finite.",
            bad,
        )

    @torch.no_grad()
    def _apply(self, factor: float) -> None:
        """Move the parameters by the update buffers, and empty these."""
        back = [_CHANNELS_FIRST if order is _CHANNELS_LAST else order for order in self._orders]
        shared_update = [update.detach().permute(order) for update, order in zip(self._update, back, strict=True)]
        shared_factor = factor
        if self._momentum_buffers:
            torch._foreach_lerp_(self._momentum_buffers, shared_update, 1 - self.momentum)
            shared_update = self._momentum_buffers
            shared_factor = factor / (1 - self.momentum**self._steps)
        head_factor = factor if self.scope == "all" else 1.0
        head_parameters: list[Tensor] = [p for head in self._heads for p in head]
        if self._decay:
            torch._foreach_mul_([*self._shared, *head_parameters], 1 - self._decay * self._learning_rate())
        head_updates: list[Tensor] = [u for head in self._head_updates for u in head]
        for parameters, updates, alpha in (
            (self._shared, shared_update, shared_factor),
            (head_parameters, head_updates, head_factor),
        ):
            if parameters:
                torch._foreach_add_(parameters, updates, alpha=alpha)
        self._empty()

    @torch.no_grad()
    def _empty(self) -> None:
        """Zeros in the update buffers, and no `.grad`."""
        everything = [*self._update, *(update for head in self._head_updates for update in head)]
        torch._foreach_zero_(everything)
        for update in everything:
            update.grad = None

    def _learning_rate(self) -> float:
        """The common learning rate, without a task's weight."""
        k = max(range(len(self._task_weights)), key=self._task_weights.__getitem__)
        return float(self.optimizers[k].param_groups[0]["lr"]) / self._task_weights[k]

    def _maths_state(self) -> dict[str, Any]:
        return {"momentum_buffers": self._momentum_buffers, "steps": self._steps, "orders": self._orders}

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        if [tuple(order) for order in state.get("orders", ())] != self._orders:
            raise RunDirectoryError(
                "The checkpoint keeps the optimizer states of convolutions with their axes in another order: it is of "
                "another version of the code. Continue it with that version, or start a new run."
            )
        for mine, saved in zip(self._momentum_buffers, state["momentum_buffers"], strict=True):
            mine.copy_(saved)
        self._steps = state["steps"]


def _probe(make_optimizer: MakeOptimizer) -> None:
    """Check by a trial step that the optimizer's update depends on gradients alone."""
    trials = [Parameter(torch.tensor(pair)) for pair in ([0.0, 0.0], [0.5, 0.5], [0.0, 0.5])]
    before = torch.cat([trial.detach() for trial in trials])
    optimizer = make_optimizer(trials)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for trial in trials:
        trial.grad = torch.ones_like(trial)
    optimizer.step()
    moved = torch.cat([trial.detach() for trial in trials]) - before
    if not torch.isclose(moved, moved[0], rtol=1e-3, atol=1e-7).all():
        raise RequirementError(
            f"SimultaneousStrategy (mao) sums the updates of one optimizer per task, which needs an optimizer whose "
            f"update depends on gradients alone. {type(optimizer).__name__} moved parameters with equal gradients "
            f"by {moved.tolist()}. Use optimizer=adam, rmsprop, adagrad or sgd."
        )


def _is_elementwise(make_optimizer: MakeOptimizer) -> bool:
    """Check by a trial step whether moving the axes of a gradient moves those of its update and changes nothing else.

    Then update buffers of convolution weights have their channels last, as their gradients come: no copy a task. (The
    axes and not only the strides: fused optimizers take twice as long on a tensor that is not contiguous.)
    """
    gradient = torch.arange(1.0, 25.0).view(2, 3, 2, 2)
    moved = []
    for value in (gradient, gradient.permute(_CHANNELS_LAST).contiguous()):
        trial = Parameter(torch.zeros_like(value))
        trial.grad = value
        make_optimizer([trial]).step()
        moved.append(trial.detach())
    return torch.equal(moved[0].permute(_CHANNELS_LAST), moved[1])
