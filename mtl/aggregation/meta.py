"""Task weights that are trained on the losses of held-out data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from mtl.validation import check_choice, check_positive

RULES = ("adam", "sgd")


class MetaWeighting(nn.Module, ABC):
    r"""Task weights w (m,), float64 on the CPU, improved by their hypergradients.

    A virtual step :math:`\theta'(w) = \theta - \alpha \sum_k w_k \nabla L_k(\theta)` makes the held-out losses
    :math:`L^{val}_t(\theta')` functions of w, with

    .. math:: \frac{\partial L^{val}_t}{\partial w_k} = -\alpha\, \nabla L^{val}_t(\theta') \cdot \nabla L_k(\theta)

    exactly: no second derivative enters. The raw weights behind w are trained by an optimizer of their own, without
    weight decay.

    Args:
        lr: Learning rate of the raw weights, > 0.
        rule: Their optimizer, `adam` or `sgd`.

    Attributes:
        diagnostics: Scalars about the last call.
    """

    diagnostics: dict[str, float]

    def __init__(self, lr: float, rule: str) -> None:
        super().__init__()
        check_positive("lr", lr)
        check_choice("rule", rule, RULES)
        self.lr = lr
        self.rule = rule
        self.diagnostics = {}

    def setup(self, tasks: tuple[str, ...], generator: torch.Generator) -> None:
        """Raw weights for the named tasks. `generator` is the only source of randomness."""
        self.raw = Parameter(self._initial(tasks, generator))
        kind = Adam if self.rule == "adam" else SGD
        self.optimizer: Optimizer = kind([self.raw], lr=self.lr)

    @abstractmethod
    def _initial(self, tasks: tuple[str, ...], generator: torch.Generator) -> Tensor:
        """Raw weights (m,) at the start."""

    @abstractmethod
    def weights(self) -> Tensor:
        """W (m,) in force, without graph."""

    @abstractmethod
    def objectives(self) -> Tensor:
        """(t, m): row i holds the coefficients of the held-out losses whose sum is objective i."""

    @abstractmethod
    def observe(self, hypergradients: Tensor, losses: Tensor) -> None:
        """Move the raw weights.

        Args:
            hypergradients: (t, m), d objective i / d w_k; finite.
            losses: (t,) values of the objectives at the virtual point.
        """

    def end_epoch(self) -> None:
        """Called after the last step of every epoch."""

    def _move(self, gradient: Tensor) -> None:
        """One step of the optimizer on the raw weights."""
        self.raw.grad = gradient.detach()
        self.optimizer.step()
        self.raw.grad = None

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the optimizer."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `get_extra_state`."""
        self.optimizer.load_state_dict(dict(state))


def through_softmax(gradient: Tensor, weights: Tensor) -> Tensor:
    """Derivatives (..., m) by xi from those by w = c softmax(xi), c > 0."""
    z = weights / weights.sum()
    return weights * (gradient - (gradient @ z).unsqueeze(-1))
