"""Strategies that update one group of tasks after another on the same batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtl.datasets.base import Batch
from mtl.errors import ConfigError
from mtl.grouping import Group, Grouping
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    parameter_groups,
)
from mtl.strategies.loss_weighting import bind_weighting
from mtl.validation import check_choice
from mtl.weighting import LossWeighting


class SequentialStrategy(Strategy):
    """For every group in turn: a new forward on the same batch, backward of the group's loss, an optimizer step.

    Args:
        grouping: Which tasks form a group, and in which order the groups come.
        optimizer_state: `shared`: one optimizer for all groups. `per_task`: an optimizer per task, each over all
            parameters; a group uses that of its first task. A foreign head has no gradient there, hence no state.
        reduce: The loss of a group is the `sum` or the `mean` of its tasks' losses.
        zero_grads: Before a group's backward, gradients become `none`, so that heads outside the group stay where they
            are; or `zeros`, as PyTorch before 2.0 did, so that a shared optimizer moves them too, by its momentum and
            weight decay. Per-task optimizers never hold a foreign head.
        lr_per_substep: `full`, or `divided` by the number of groups of the batch.
        head_lr_multiplier: The learning rate of the heads is `one` times that of the rest, or `num_tasks` times.
        weighting: Optional loss weighting in front; its weights are taken once per batch.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of each group's update;
            None for no clipping.

    Cost of a step with M groups: M forwards, m head backwards, M backbone backwards, M optimizer steps; one more
    forward for a grouping that looks at the losses after the last update.

    Losses in the report are those before the first update; all heads are evaluated in the first forward for that.
    BatchNorm statistics move in the first forward only. Dropout draws new masks in every forward, as the released codes
    do; loss changes that a grouping observes then include the change of masks.
    """

    def __init__(
        self,
        grouping: Grouping,
        optimizer_state: str = "shared",
        reduce: str = "sum",
        zero_grads: str = "none",
        lr_per_substep: str = "full",
        head_lr_multiplier: str = "one",
        weighting: LossWeighting | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        check_choice("optimizer_state", optimizer_state, ("shared", "per_task"))
        check_choice("reduce", reduce, ("sum", "mean"))
        check_choice("zero_grads", zero_grads, ("none", "zeros"))
        if zero_grads == "zeros" and optimizer_state == "per_task":
            raise ConfigError(
                "`zero_grads = zeros` has no effect with `optimizer_state = per_task`; use zero_grads=none."
            )
        check_choice("lr_per_substep", lr_per_substep, ("full", "divided"))
        check_choice("head_lr_multiplier", head_lr_multiplier, ("one", "num_tasks"))
        self.grouping = grouping
        self.optimizer_state = optimizer_state
        self.reduce = reduce
        self.zero_grads = zero_grads
        self.lr_per_substep = lr_per_substep
        self.head_lr_multiplier = head_lr_multiplier
        self.weighting = weighting
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        m = self.objective.num_tasks
        self.grouping.meet(self.objective.tasks, tuple(spec.kind for spec in self.objective.specs))
        self.grouping.setup(m, self.generator)
        count = m if self.optimizer_state == "per_task" else 1
        self.optimizers = [make_optimizer(parameter_groups(self.objective)) for _ in range(count)]
        heads = {id(p) for task in self.objective.tasks for p in self.objective.task_parameters(task)}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            if self.head_lr_multiplier == "num_tasks" and id(group["params"][0]) in heads:
                group["lr"] = group["lr"] * m
        self._num_network_optimizers = count
        self._reached = [False] * m  # heads that would hold a gradient of zeros; stays False with zero_grads: none
        if self.weighting is not None:
            bind_weighting(self.weighting, self)
            own = self.weighting.trained_parameters()
            if own:
                lr = {} if self.weighting.lr is None else {"lr": self.weighting.lr}
                self.optimizers.append(make_optimizer([{"params": own, "weight_decay": 0.0, **lr}]))

    def step(self, batch: Batch) -> StepReport:
        """One update per group."""
        groups = self.grouping.next_groups()
        every_task = range(self.objective.num_tasks)
        observes = self.grouping.observes_losses
        first: Tensor | None = None
        scales: Tensor | None = None
        backwards = 0
        for position, group in enumerate(groups):
            evaluation = self.objective.evaluate(
                batch,
                group,
                update_buffers=position == 0,
                measure=every_task if observes or position == 0 else (),
                one_backward=True,
            )
            if first is None:
                first = evaluation.values
                scales = self._scale_losses(first)
            if observes:
                self.grouping.observe(evaluation.values, group)
            optimizer = self._optimizer_of(group)
            self._prepare_gradients(group)
            torch.autograd.backward(evaluation.losses, self._factors(group, scales, evaluation.losses[0]))
            self._check_gradients(batch)
            self.clipping(self.objective)
            self._advance(optimizer, len(groups))
            backwards += len(group)
        self._clear_gradients()
        forwards = len(groups)
        if observes and self.grouping.trailing_forward:
            self.grouping.observe(self.objective.measure(batch), None)
            forwards += 1
        assert first is not None
        cost = StepCost(forwards, backwards, len(groups), len(groups), batch.num_samples)
        front = self.weighting.diagnostics if self.weighting is not None else {}
        diagnostics = {**self.grouping.diagnostics, **front, **self.clipping.report()}
        return StepReport(
            first,
            cost,
            groups=tuple(groups),
            substeps=tuple(groups),
            affinity=self.grouping.affinity,
            diagnostics=diagnostics,
        )

    def _advance(self, optimizer: Optimizer, num_groups: int) -> None:
        """One optimizer step, at the learning rate of a sub-step."""
        if self.lr_per_substep == "full":
            optimizer.step()
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate / num_groups
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _optimizer_of(self, group: Group) -> Optimizer:
        return self.optimizers[min(group)] if self.optimizer_state == "per_task" else self.optimizers[0]

    def _prepare_gradients(self, group: Group) -> None:
        """No gradients; or zeros for every parameter that had one before, as PyTorch 1 kept them."""
        partition, tasks = self.objective.partition, self.objective.tasks
        for k, task in enumerate(tasks):
            for p in partition.task_specific[task]:
                p.grad = torch.zeros_like(p) if self._reached[k] else None
        for p in partition.shared:
            p.grad = None
        if self.zero_grads == "zeros":
            for k in group:
                self._reached[k] = True

    def _factors(self, group: Group, scales: Tensor | None, like: Tensor) -> list[Tensor | None]:
        factor = 1.0 if self.reduce == "sum" else 1.0 / len(group)
        if scales is None:
            return [None if factor == 1.0 else like.new_tensor(factor)] * len(group)
        return [scales[task] * factor for task in group]

    def _scale_losses(self, values: Tensor) -> Tensor | None:
        if self.weighting is None:
            return None
        scales = check_weights(self.weighting.weigh(values), self.objective.tasks)
        for optimizer in self.optimizers[self._num_network_optimizers :]:
            optimizer.step()
        return scales

    def end_epoch(self) -> None:
        """Tell the grouping and the weighting."""
        self.grouping.end_epoch()
        if self.weighting is not None:
            self.weighting.end_epoch()

    def _maths_state(self) -> dict[str, Any]:
        return {
            "grouping": self.grouping.state_dict(),
            "reached": self._reached,
            "weighting": dict(self.weighting.state_dict()) if self.weighting is not None else None,
        }

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.grouping.load_state_dict(state["grouping"])
        self._reached = list(state["reached"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])
