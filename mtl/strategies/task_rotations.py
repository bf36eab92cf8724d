"""The trained side of task rotations: their parameters, their optimizer, and one step towards alignment."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from mtl.models.rotation import RotationView
from mtl.validation import check_choice, check_fraction, check_non_negative

ALIGNMENTS = ("inner_product", "distance")
RULES = ("adam", "sgd")


class TaskRotations:
    r"""Rotations :math:`R_k = \exp(A_k - A_k^\top)`, A_k strictly lower triangular, written into a `RotationView`.

    Computed in float64, so that R_k is orthogonal to the rounding of the features' type.

    Args:
        lr: Learning rate, >= 0; 0 leaves the rotations at the identity.
        decay: Factor of the learning rate after every step, in [0, 1].
        rule: `adam` or `sgd`.
        alignment: `inner_product` or `distance`, see `align`.
    """

    def __init__(self, lr: float, decay: float, rule: str, alignment: str) -> None:
        check_non_negative("rotation_lr", lr)
        check_fraction("rotation_decay", decay)
        check_choice("rotation_rule", rule, RULES)
        check_choice("alignment", alignment, ALIGNMENTS)
        self.lr = lr
        self.decay = decay
        self.rule = rule
        self.alignment = alignment

    def setup(self, view: RotationView) -> None:
        """Start at the identity, for the tasks and the size of `view`."""
        self.view = view
        m, self.size = view.rotations.shape[:2]
        device = view.rotations.device
        self.below = torch.tril_indices(self.size, self.size, offset=-1, device=device)
        self.entries = Parameter(torch.zeros((m, self.below.shape[1]), dtype=torch.float64, device=device))
        kind = Adam if self.rule == "adam" else SGD
        self.optimizer: Optimizer = kind([self.entries], lr=self.lr)

    def exponential(self) -> Tensor:
        """R (m, d, d) in float64, with graph to the entries."""
        lower = self.entries.new_zeros((len(self.entries), self.size, self.size))
        lower[:, self.below[0], self.below[1]] = self.entries
        return torch.matrix_exp(lower - lower.transpose(1, 2))

    def align(self, gradients: Tensor, norms: Tensor) -> float:
        r"""Move every R_k so that :math:`\tilde g_{nk}` and :math:`R_k v_n` come nearer, v the mean unit gradient.

        With `inner_product` the objective is :math:`-\sum_n \langle \tilde g_{nk}, R_k v_n\rangle`; with `distance` the
        mean over n of :math:`\|c R_k v_n - \tilde g_{nk}\|^2`, c the norm of the mean gradient. As R_k is orthogonal,
        its gradient is that of the former times 2 c / B.

        Args:
            gradients: G (m, B, D, ...) of the task losses at the features z.
            norms: Their norms (m,).

        Returns:
            The mean cosine of G_k and v, before the step. (It does not depend on R: the next step sees the effect.)
        """
        wide = gradients.to(torch.float64).flatten(2).view(*gradients.shape[:3], -1)  # (m, B, D, positions)
        smallest = torch.finfo(torch.float64).tiny
        scale = norms.to(wide).clamp_min(smallest)
        mean = (wide / scale.view(-1, 1, 1, 1)).mean(0)
        cosines = (wide * mean).flatten(1).sum(1) / (scale * mean.norm()).clamp_min(smallest)
        if len(wide) > 1 and self.lr > 0:
            self._descend(wide[:, :, : self.size], mean[:, : self.size], wide.mean(0).norm())
        return float(cosines.mean().item())

    def _descend(self, gradients: Tensor, mean: Tensor, mean_norm: Tensor) -> None:
        rotations = self.exponential()
        with torch.no_grad():
            products = torch.einsum("kbip,bjp->kij", gradients, mean)  # sum_n g v^T, at z
            slope = -torch.bmm(rotations, products)  # of the objective by R: g~ = R g
            if self.alignment == "distance":
                slope *= 2 * mean_norm / gradients.shape[1]
        (self.entries.grad,) = torch.autograd.grad(rotations, self.entries, grad_outputs=slope)
        self.optimizer.step()
        self.entries.grad = None
        for group in self.optimizer.param_groups:
            group["lr"] *= self.decay
        with torch.no_grad():
            self.view.rotations.copy_(self.exponential())

    def state_dict(self) -> dict[str, Any]:
        """Entries and optimizer."""
        return {"entries": self.entries.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; the view's rotations follow from the entries."""
        with torch.no_grad():
            self.entries.copy_(state["entries"])
            self.view.rotations.copy_(self.exponential())
        self.optimizer.load_state_dict(state["optimizer"])
