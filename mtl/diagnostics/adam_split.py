"""Each task's part in the updates of Adam on a weighted sum of task gradients."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from mtl.diagnostics.layers import Layers
from mtl.errors import RequirementError
from mtl.gradients import views
from mtl.objective import MultiTaskObjective
from mtl.strategies import StepReport, Strategy

TOLERANCE = 0.01
"""Shares are recorded if the tasks' first moments add up to the optimizer's within this relative error."""


class AdamSplit:
    r"""The exact split: Adam's first moment is linear in the gradient, so it is a sum of one moment a task.

    .. math:: u_k = -\alpha\, \frac{\hat m_k}{\sqrt{\hat v} + \epsilon}, \qquad
        m_k \leftarrow \beta_1 m_k + (1 - \beta_1)\, w_k g_k, \qquad \sum_k u_k = u

    with the optimizer's own second moment v, the task weights w and gradients g of every step. What weight decay or
    clipping adds belongs to no task; `error` says how much that is.

    Where tasks have optimizer steps of their own there is nothing to split, and it switches itself off.

    Cost: the gradients of all tasks in every step (1 forward, m backwards), and memory for two times (m, n).

    Args:
        objective: Whose shared parameters.
        strategy: With one Adam (or AdamW) on all of them.
    """

    def __init__(self, objective: MultiTaskObjective, strategy: Strategy) -> None:
        self._shared = list(objective.partition.shared)
        self._strategy = strategy
        self.needed = True
        self.moments: Tensor | None = None

    def take(self, gradients: Tensor, report: StepReport) -> None:
        """One step: its task gradients (m, n), taken before it, and its weights.

        Raises:
            RequirementError: the step was no weighted sum, or was made by another optimizer.
        """
        if report.substeps is not None:
            self.needed = False
            return
        if report.weights is None:
            raise RequirementError(
                "`tracking.diagnostics.shares = updates` splits the update of a weighted sum of task gradients, and "
                "this strategy's is none. Use shares=gradients."
            )
        if self.moments is None:
            self.moments = torch.zeros_like(gradients)
        weighted = gradients * report.weights.to(gradients)[:, None]
        self.moments.lerp_(weighted, 1 - self._adam().param_groups[0]["betas"][0])

    @torch.no_grad()
    def sums(self, layers: Layers) -> Tensor:
        """Sums of :math:`|u_k|` by layer, (m, number of layers), up to a common factor."""
        assert self.moments is not None, "sums() before take()"
        found = []
        for moment in self.moments:
            parts = [
                part / self._denominator(p) for p, part in zip(self._shared, views(moment, self._shared), strict=True)
            ]
            found.append(layers.sums(parts))
        return torch.stack(found)

    def error(self) -> float:
        """Length of what the tasks' moments lack of the optimizer's, relative to the optimizer's."""
        assert self.moments is not None, "error() before take()"
        total = views(self.moments.sum(0), self._shared)
        own = [self._adam().state[p]["exp_avg"] for p in self._shared]
        lack = math.sqrt(sum(float((a - b).double().square().sum()) for a, b in zip(total, own, strict=True)))
        length = math.sqrt(sum(float(b.double().square().sum()) for b in own))
        return lack / length if length > 0 else math.nan

    def _denominator(self, p: Tensor) -> Tensor:
        """Square root of the corrected second moment, plus epsilon."""
        group, state = self._adam().param_groups[0], self._adam().state[p]
        corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
        denominator: Tensor = corrected.sqrt() + group["eps"]
        return denominator

    def _adam(self) -> Optimizer:
        ids = {id(p) for p in self._shared}
        found = [o for o in self._strategy.optimizers if any(id(p) in ids for g in o.param_groups for p in g["params"])]
        if len(found) != 1 or not isinstance(found[0], Adam) or found[0].param_groups[0]["amsgrad"]:
            names = ", ".join(type(optimizer).__name__ for optimizer in found) or "no optimizer"
            raise RequirementError(
                "`tracking.diagnostics.shares = updates` splits the update of one Adam or AdamW (without amsgrad) on "
                f"all shared parameters. Found {names}. Use shares=gradients."
            )
        return found[0]

    def state_dict(self) -> dict[str, Any]:
        """The tasks' first moments."""
        return {"moments": self.moments, "needed": self.needed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.needed = state["needed"]
        self.moments = None
        if state["moments"] is not None:
            like = next(iter(self._shared), state["moments"])
            self.moments = state["moments"].to(like.device, copy=True)
