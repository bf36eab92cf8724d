"""Joint training that measures, by trial steps, what an update for one task does to the others."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.datasets.base import Batch
from mtl.objective import Evaluation
from mtl.seeding import global_states, replayed
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    StepCost,
    StepReport,
    Strategy,
    gradient_error,
    parameter_groups,
    sum_of_norms,
)
from mtl.validation import check_choice, check_count

SCALES = ("none", "learning_rate")


class LookaheadAffinityStrategy(Strategy):
    r"""Train the sum of the losses, and measure the inter-task affinity of TAG (Fifty et al. 2021, arXiv:2109.04617).

    Every n-th step, before the update and on its batch, for every ordered pair of tasks:

    .. math:: Z_{i \to j} = 1 - \frac{L_j(\theta - \eta \nabla_\theta L_i, \phi_j)}{L_j(\theta, \phi_j)}

    with the shared parameters theta, heads phi that stay, and eta the learning rate of the shared parameters. Positive:
    a step for i helps j. The mean over all measurements is the input of `mtl.grouping.select_groups`, which says what
    to train together. `mtl.grouping.SelectiveGroups` measures the same quotient from its real updates, heads included,
    and keeps a moving average of it.

    Args:
        measure_every: n, at least 1; the first step measures.
        scale: `none`, or `learning_rate`: Z divided by eta, so that a mean over a schedule weighs all steps alike.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Measuring leaves the training as it is, to the bit: parameters are put back from copies, running statistics stay,
    and the trial forwards repeat the step's dropout masks, so that a change of a loss is no change of masks.

    Cost of a step: that of `uniform`; when it measures, m more forwards (without graph), m head and m backbone
    backwards. A pair with L_j <= 0 has no quotient; it is left out of the mean and counted.

    Source: Fifty, Amid, Zhao, Yu, Anil and Finn, "Efficiently Identifying Task Groupings for Multi-Task Learning",
    NeurIPS 2021, arXiv:2109.04617.

    **Deviations.** Paper: the equation (full text not available to us). Released code: Z divided by eta; the trial step
    has momentum (CelebA) or weight decay (Taskonomy: momentum too, but its buffer is looked up where it never is);
    other dropout masks; BatchNorm statistics move in the trial forwards (Taskonomy); every step (CelebA), or every
    tenth (README, Taskonomy). Ours: the plain gradient step of the equation whatever the optimizer, every tenth step.
    """

    def __init__(self, measure_every: int = 10, scale: str = "none", max_grad_norm: float | None = None) -> None:
        check_count("measure_every", measure_every)
        check_choice("scale", scale, SCALES)
        self.measure_every = measure_every
        self.scale = scale
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        m = self.objective.num_tasks
        self.optimizers = [make_optimizer(parameter_groups(self.objective))]
        self._steps = 0
        self._total = torch.zeros((m, m), dtype=torch.float64)
        self._count = torch.zeros((m, m), dtype=torch.float64)
        self._undefined = 0

    @property
    def affinity(self) -> Tensor:
        """Mean Z (m, m), row i the task that was stepped for; NaN where nothing was measured yet."""
        return self._total / self._count

    def step(self, batch: Batch) -> StepReport:
        """One update, after a measurement if one is due."""
        measures = self._steps % self.measure_every == 0
        states = global_states(self.objective.device) if measures else []
        evaluation = self.objective.evaluate(batch)
        self._clear_gradients()
        if measures:
            self._measure(batch, evaluation, states)
        torch.autograd.backward(evaluation.losses)
        self._check_gradients(batch)
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        self._steps += 1
        m = self.objective.num_tasks
        trials = m if measures else 0
        cost = StepCost(1 + trials, m + trials, 1 + trials, 1, evaluation.num_samples)
        diagnostics = {**self._named(), **self.clipping.report()}
        weights = torch.ones_like(evaluation.values)
        return StepReport(evaluation.values, cost, weights=weights, affinity=self.affinity, diagnostics=diagnostics)

    def _measure(self, batch: Batch, evaluation: Evaluation, states: list[Tensor]) -> None:
        """Add Z of every pair to the totals."""
        before = evaluation.values.to("cpu", torch.float64)
        eta = float(self.optimizers[0].param_groups[0]["lr"])
        tasks = zip(self.objective.tasks, evaluation.losses, strict=True)
        rows = [self._losses_after(batch, task, loss, states, eta) for task, loss in tasks]
        defined = (before > 0).expand(len(before), -1)
        gain = torch.where(defined, 1 - torch.stack(rows) / before, 0.0)
        if self.scale == "learning_rate":
            gain = gain / eta if eta > 0 else torch.zeros_like(gain)
        self._total += gain
        self._count += defined
        self._undefined += int((~defined).sum())

    def _losses_after(self, batch: Batch, task: str, loss: Tensor, states: list[Tensor], eta: float) -> Tensor:
        """All losses (m,), float64 on the CPU, after a trial step for one of them, that of `task`."""
        shared = self.objective.shared_parameters()
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        if not math.isfinite(sum_of_norms(gradients)):
            raise gradient_error((task,))  # the losses after such a step would name every task
        saved = [p.detach() for p in shared]
        try:
            for p, gradient in zip(shared, gradients, strict=True):
                p.data = p.detach() - eta * gradient  # no write into it: the graph is used again
            with replayed(states, self.objective.device):
                return self.objective.measure(batch).to("cpu", torch.float64)
        finally:
            for p, value in zip(shared, saved, strict=True):
                p.data = value

    def _named(self) -> dict[str, float]:
        """The mean affinities by name, and the numbers of measurements and of undefined quotients."""
        tasks, affinity = self.objective.tasks, self.affinity.tolist()
        named = {
            f"affinity/{source}->{target}": affinity[i][j]
            for i, source in enumerate(tasks)
            for j, target in enumerate(tasks)
            if self._count[i, j] > 0
        }
        measurements = -(-self._steps // self.measure_every)
        return {**named, "affinity_measurements": float(measurements), "affinity_undefined": float(self._undefined)}

    def _maths_state(self) -> dict[str, Any]:
        return {"steps": self._steps, "total": self._total, "count": self._count, "undefined": self._undefined}

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
        self._total = state["total"].clone()
        self._count = state["count"].clone()
        self._undefined = state["undefined"]
