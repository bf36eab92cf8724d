"""Strategies that estimate weights and direction on independent samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.aggregation import CrossGramianWeighting
from mtl.datasets.base import Batch
from mtl.errors import ConfigError
from mtl.gradients import TaskJacobian, inner_products, set_gradients
from mtl.objective import Evaluation
from mtl.strategies.base import (
    Clipping,
    MakeOptimizer,
    StepCost,
    StepReport,
    Strategy,
    check_weights,
    parameter_groups,
)
from mtl.validation import check_choice

Heads = list[tuple[Tensor, ...]]


class DoubleSamplingStrategy(Strategy):
    """Train with sum_k w_k g_k(z_3), the weights w from the task gradients of two other samples z_1 and z_2.

    The samples are parts of the step's batch: an epoch sees every sample once, as with every other strategy. For a
    paper's batch size in each sample, set `dataset.batch_size` three (two) times as large. A batch of fewer samples
    than parts uses a part again, counted in `samples_reused`.

    Args:
        aggregator: Cross-Gramian J(z_1) J(z_2)^T (m, m) -> weights (m,).
        samples: 3, or 2: the update is then the mean of sum_k w_k g_k over z_1 and z_2.
        head_samples: Heads receive the gradient of the `last` sample, or the `mean` or `sum` over all of them.
        head_gradients: Heads receive their `own` task's gradient, or the `weighted` one.
        max_grad_norm: Upper limit, > 0, of the joint norm of all network gradients of the update; None for no clipping.

    Reported losses are the mean over the batch before the update, whichever part a sample is in; reported weights
    multiply the gradients of the last sample (with 2: of each half). BatchNorm statistics move in the forward of the
    last sample only, the one that the update comes from, and see a part of the batch. BatchNorm on features without
    spatial axes needs 2 samples a part: drop a smaller last batch (`dataset.drop_last`).

    Cost of a step: as many forwards as samples, one optimizer step; 2 m backbone backwards, and one more for the third
    sample; memory for two Jacobians (m, n).
    """

    def __init__(
        self,
        aggregator: CrossGramianWeighting,
        samples: int = 3,
        head_samples: str = "last",
        head_gradients: str = "own",
        max_grad_norm: float | None = None,
    ) -> None:
        if samples not in (2, 3):
            raise ConfigError(f"Parameter `samples` should be 2 or 3. Found `samples = {samples!r}`.")
        check_choice("head_samples", head_samples, ("last", "mean", "sum"))
        check_choice("head_gradients", head_gradients, ("own", "weighted"))
        self.aggregator = aggregator
        self.samples = samples
        self.head_samples = head_samples
        self.head_gradients = head_gradients
        self.clipping = Clipping(max_grad_norm)

    def _build(self, make_optimizer: MakeOptimizer) -> None:
        self.aggregator.setup(self.objective.num_tasks)
        self.optimizers = [make_optimizer(parameter_groups(self.objective))]
        self.sources = (TaskJacobian(self.objective), TaskJacobian(self.objective))

    def step(self, batch: Batch) -> StepReport:
        """One update."""
        parts = batch.parts(self.samples)
        drawn = [parts[index % len(parts)] for index in range(self.samples)]
        scales: list[Tensor | None] = [None] * self.objective.num_tasks
        evaluations: list[Evaluation] = []
        heads: list[Heads] = []
        for index, part in enumerate(drawn):
            last = index == self.samples - 1
            evaluations.append(self.objective.evaluate(part, update_buffers=last))
            if index < 2:
                self.sources[index].measure(evaluations[index], scales)
                heads.append(self.sources[index].heads)
        first, second = self.sources
        weights = check_weights(self.aggregator(inner_products(first.rows, second.rows)), self.objective.tasks)
        if self.samples == 3:
            second.skip(evaluations[2], scales, weights)
            heads.append(second.heads)
        else:
            halves = weights.to(first.rows) / 2
            second.write(torch.mv(first.rows.T, halves) + torch.mv(second.rows.T, halves))
        self._write_heads(heads, weights)
        self._check_gradients(drawn[-1])
        self.clipping(self.objective)
        self.optimizers[0].step()
        self._clear_gradients()
        head_backwards = first.count.heads + second.count.heads
        cost = StepCost(
            self.samples, head_backwards, first.count.backbone + second.count.backbone, 1, batch.num_samples
        )
        for source in self.sources:
            source.reset()
        reused = sum(part.num_samples for part in drawn[len(parts) :])
        diagnostics = {**self.aggregator.diagnostics, "samples_reused": float(reused), **self.clipping.report()}
        losses = mean_losses(evaluations[: len(parts)])
        return StepReport(losses, cost, weights=weights.clone(), diagnostics=diagnostics)

    def _write_heads(self, heads: Sequence[Heads], weights: Tensor) -> None:
        used = heads[-1:] if self.head_samples == "last" else heads
        for k in range(self.objective.num_tasks):
            factor = weights[k].item() if self.head_gradients == "weighted" else 1.0
            if self.head_samples == "mean":
                factor = factor / len(used)
            own = self.objective.task_parameters(k)
            totals = [sum((sample[k][i] for sample in used[1:]), start=used[0][k][i]) for i in range(len(own))]
            set_gradients(own, totals if factor == 1.0 else [total * factor for total in totals])

    def _maths_state(self) -> dict[str, Any]:
        return {"aggregator": dict(self.aggregator.state_dict())}

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        self.aggregator.load_state_dict(state["aggregator"])


def mean_losses(evaluations: Sequence[Evaluation]) -> Tensor:
    """Losses (m,) over several parts of a batch, each part with the weight of its number of samples."""
    total = sum(evaluation.num_samples for evaluation in evaluations)
    return torch.stack([e.values * (e.num_samples / total) for e in evaluations]).sum(dim=0)
