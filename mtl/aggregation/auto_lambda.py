"""Auto-Lambda."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.aggregation.meta import MetaWeighting, through_softmax
from mtl.errors import ConfigError
from mtl.validation import check_choice, check_positive

CONSTRAINTS = ("none", "non_negative", "softmax")


class AutoLambda(MetaWeighting):
    r"""Auto-Lambda (Liu et al. 2022, arXiv:2202.03091).

    .. math:: \min_w \sum_{t \in P} L^{val}_t\Big(\theta - \alpha \sum_k w_k \nabla L_k(\theta)\Big)

    with one gradient step on w for every step on theta; P are the primary tasks.

    Args:
        initial: Weight of every task at the start, > 0; 0.1 in the released code.
        lr: Learning rate of w, > 0; 1e-4 in the released code.
        rule: Optimizer of w: `adam` (released code) or `sgd`.
        constraint: `none` (released code): weights may become negative, which trains a task uphill; how many are is in
            `negative_weights`. `non_negative`: negative ones become 0 after each step. `softmax` (LibMTL): w = m
            `initial` softmax(xi), and xi is trained; `initial` = 1/m is LibMTL's.
        primary: Names of the tasks whose held-out losses count; None for all.

    Source: Liu, James, Davison and Johns, "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022,
    arXiv:2202.03091.

    **Deviations.** Paper: full text not available to us; equation from the released code. Released code: unconstrained
    weights; its "validation" loader is the training set in another order; hypergradient by finite differences, its
    virtual step with the optimizer's momentum and weight decay; parameters restored by adding and subtracting, so up to
    rounding; other dropout masks in each forward; the model copy of the virtual step keeps its own BatchNorm buffers.
    LibMTL: softmax; plain virtual step; held-out and virtual batch are half-batches of the training set. Ours: held-out
    data are the validation split, never trained on; the rest by options here and of the strategy.
    """

    def __init__(
        self,
        initial: float = 0.1,
        lr: float = 1e-4,
        rule: str = "adam",
        constraint: str = "none",
        primary: Sequence[str] | None = None,
    ) -> None:
        super().__init__(lr, rule)
        check_positive("initial", initial)
        check_choice("constraint", constraint, CONSTRAINTS)
        self.initial = initial
        self.constraint = constraint
        self.primary = primary

    def _initial(self, tasks: tuple[str, ...], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        chosen = tasks if self.primary is None else tuple(self.primary)
        if not chosen or isinstance(self.primary, str) or not set(chosen) <= set(tasks):
            raise ConfigError(
                f"Parameter `primary` should be null (all tasks) or a list of one or more of {', '.join(tasks)}. "
                f"Found `primary = {self.primary}`."
            )
        self.coefficients = torch.tensor([[float(task in chosen) for task in tasks]], dtype=torch.float64)
        start = 0.0 if self.constraint == "softmax" else self.initial
        return torch.full((len(tasks),), start, dtype=torch.float64)

    def weights(self) -> Tensor:
        """The raw weights, or their softmax."""
        raw = self.raw.detach()
        if self.constraint == "softmax":
            return len(raw) * self.initial * torch.softmax(raw, dim=0)
        return raw.clone()

    def objectives(self) -> Tensor:
        """One row: 1 for the primary tasks."""
        return self.coefficients

    def observe(self, hypergradients: Tensor, losses: Tensor) -> None:
        """One step on the sum of the primary tasks' losses."""
        gradient = hypergradients[0]
        self._move(through_softmax(gradient, self.weights()) if self.constraint == "softmax" else gradient)
        if self.constraint == "non_negative":
            with torch.no_grad():
                self.raw.clamp_(min=0.0)
        self.diagnostics = {
            "held_out_loss": losses.item(),
            "negative_weights": float((self.weights() < 0).sum()),
        }
