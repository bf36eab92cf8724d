"""What is recorded of a step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.datasets.base import Batch
from mtl.diagnostics import similarity
from mtl.diagnostics.adam_split import TOLERANCE, AdamSplit
from mtl.diagnostics.layers import Layers
from mtl.diagnostics.path import Path
from mtl.diagnostics.substeps import Substeps
from mtl.gradients import flatten, task_rows
from mtl.numerics import gramian
from mtl.objective import MultiTaskObjective
from mtl.seeding import global_states, replayed
from mtl.strategies import StepReport, Strategy

AUTO = 40
"""`every: auto`: so many steps for each pass. 1 forward and m backwards beside a plain step's 1 and 1 were 0.5 (m + 1)
to 0.6 (m + 1) times its time; see docs/wandb.md."""


@dataclass
class _Before:
    """What was measured at the point before an update.

    Attributes:
        gramian: Of the task gradients, (m, m) float64 on the CPU.
        total: Their sum, (n,).
        sums: Sums of their absolute values by layer, (m, number of layers).
        parameters: The shared parameters, (n,).
        substeps: Watches the optimizers until the update is done.
    """

    gramian: Tensor
    total: Tensor
    sums: Tensor
    parameters: Tensor
    substeps: Substeps


class Recorder:
    """Measures every n-th step, and leaves the training as it is, to the bit.

    Before the step: the gradients of the m unweighted losses by the shared parameters, on the step's batch and with the
    dropout masks of its first forward; running statistics, generators and `.grad` stay untouched. After it: how the
    shared parameters moved. docs/wandb.md defines every quantity.

    Cost of a measured step: 1 forward and m backwards beside the strategy's own; memory for the gradients (m, n), given
    back before the step. The path costs a pass over the shared parameters in every optimizer step. With
    `shares: updates` gradients are taken in every step.

    Args:
        objective: Model and tasks, where training starts.
        strategy: Set up on it.
        every: Measure each n-th step; `auto`: n = 40 (m + 1), under 2 % of the time of a plain step; None for never.
        path: Record path length and displacement too.
        shares: What a task's share in the update of a weighted sum is taken from: the weighted `gradients` of the step,
            or the `updates` of Adam (`AdamSplit`). Tasks with optimizers or steps of their own: their updates.
    """

    def __init__(
        self,
        objective: MultiTaskObjective,
        strategy: Strategy,
        every: int | str | None,
        path: bool,
        shares: str = "gradients",
    ) -> None:
        self.objective = objective
        self.strategy = strategy
        self.every = AUTO * (objective.num_tasks + 1) if isinstance(every, str) else every
        self.path = Path(objective.partition.shared, strategy.optimizers) if path else None
        self.split = AdamSplit(objective, strategy) if shares == "updates" and self.every is not None else None
        self.layers = Layers(objective)
        self._before: _Before | None = None
        self._rows: Tensor | None = None

    def looks(self, step: int) -> bool:
        """Whether `before` and `after` have something to do in the step of this number (from 1)."""
        return self._splits() or self._due(step)

    def _splits(self) -> bool:
        return self.split is not None and self.split.needed

    def _due(self, step: int) -> bool:
        return self.every is not None and step % self.every == 0

    def before(self, batch: Batch, step: int) -> None:
        """Look at the point before a step on `batch`.

        Raises:
            NonFiniteError: a loss is NaN or infinite; the step would have raised it.
        """
        objective = self.objective
        shared = objective.partition.shared
        m, n = objective.num_tasks, sum(p.numel() for p in shared)
        with replayed(global_states(objective.device), objective.device), self.layers.ordered():
            evaluation = objective.evaluate(batch, update_buffers=False)
        rows = evaluation.values.new_empty((m, n))
        sums = []
        for k, gradients, _ in task_rows(objective, evaluation, [None] * m):
            torch.cat([gradient.reshape(-1) for gradient in gradients] or [rows[k]], out=rows[k])
            sums.append(self.layers.sums(gradients))
        self._rows = rows if self._splits() else None
        if self._due(step):
            product = gramian(rows)
            self._before = _Before(
                gramian=(product + product.T) / 2,
                total=rows.sum(0),
                sums=torch.stack(sums),
                parameters=flatten(shared),
                substeps=Substeps(self.strategy, self.layers),
            )

    def after(self, report: StepReport) -> dict[str, Any] | None:
        """After the step that gave `report`: the fields of its `diagnostics` event, if it is measured.

        Raises:
            RequirementError: `shares: updates`, and the update cannot be split.
        """
        if self.split is not None and self._rows is not None:
            self.split.take(self._rows, report)
        self._rows = None
        before, self._before = self._before, None
        return None if before is None else self._fields(before, report)

    def stepped(self) -> None:
        """A step is done, measured or not."""
        if self.path is not None:
            self.path.stepped()

    def _fields(self, before: _Before, report: StepReport) -> dict[str, Any]:
        before.substeps.close()
        tasks = self.objective.tasks
        update = flatten(self.objective.partition.shared) - before.parameters
        cosines = similarity.cosines(before.gramian)
        found: dict[str, Any] = {
            "gradient_norms": _by_task(tasks, similarity.norms(before.gramian)),
            "cosines": cosines.tolist(),
            "magnitude_similarity": similarity.magnitude_similarity(before.gramian).tolist(),
            "conflict_rate": similarity.conflict_rate(cosines),
            "condition_number": similarity.condition_number(before.gramian, torch.finfo(update.dtype).eps),
            "angle_to_uniform": similarity.angle(update, -before.total),
            "update_norm": float(torch.linalg.vector_norm(update, dtype=torch.float64)),
        }
        if report.weights is not None:
            found["weights"] = _by_task(tasks, report.weights)
        if self.split is not None and self.split.needed:
            found["split_error"] = self.split.error()
        shares = self._shares(before, report)
        if shares is not None:
            found["update_share"] = self._by_layer(shares)
        if self.path is not None:
            found |= self.path.record()
        if report.groups is not None:
            found["groups"] = [[tasks[task] for task in group] for group in report.groups]
        if report.affinity is not None:
            found["affinity"] = report.affinity.tolist()
        return found

    def _shares(self, before: _Before, report: StepReport) -> Tensor | None:
        """Each task's part (m, number of layers) of the update, in any unit; None where it is not defined."""
        if self.split is not None and self.split.needed:
            return self.split.sums(self.layers) if self.split.error() < TOLERANCE else None
        if report.substeps is not None and len(report.substeps) == len(before.substeps.moved):
            return before.substeps.by_task(report.substeps, before.sums)
        if report.substeps is None and report.weights is not None:
            return before.sums * report.weights.detach().to("cpu", torch.float64).abs()[:, None]
        return None

    def _by_layer(self, parts: Tensor) -> dict[str, dict[str, float]]:
        """Shares that sum to 1 over the tasks, for the layers that moved."""
        total = parts.sum(0)
        return {
            name: _by_task(self.objective.tasks, parts[:, layer] / total[layer])
            for layer, name in enumerate(self.layers.names)
            if 0 < float(total[layer]) < math.inf
        }

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs of what is on: the path, and the tasks' moments."""
        return {key: part.state_dict() for key, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, after the model's own state was loaded."""
        for key, part in self._parts().items():
            part.load_state_dict(state[key])

    def _parts(self) -> dict[str, Path | AdamSplit]:
        parts = {"path": self.path, "adam_split": self.split}
        return {key: part for key, part in parts.items() if part is not None}


def _by_task(tasks: Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(tasks, values.tolist(), strict=True))
