"""Loss weightings: loss values to task weights."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class LossWeighting(nn.Module, ABC):
    """Loss values (m,) -> weights (m,), where weight k = d (trained scalar) / d (loss k).

    Knows numbers only: no model, no gradient of the model. State that the next step depends on is in buffers and
    parameters, so that `state_dict()` holds it; `setup` creates them before any state is loaded.
    """

    lr: float | None = None
    """Learning rate of own parameters; None for the common one."""

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:
        """Prepare for m tasks.

        Args:
            tasks: Their names.
            kinds: "classification" or "regression" for each.
            generator: The only source of randomness.
        """

    @abstractmethod
    def weigh(self, losses: Tensor) -> Tensor:
        """Weights (m,) for loss values (m,) without graph. Leaves gradients of own parameters in their `.grad`."""

    def end_epoch(self) -> None:
        """Called after the last step of every epoch."""


class Scalarization(LossWeighting, ABC):
    """A weighting given by the scalar that it trains: weights are its derivatives, own parameters are trained on it."""

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """The trained scalar for losses (m,)."""

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights = d forward / d losses."""
        leaf = losses.detach().requires_grad_()
        own = list(self.parameters())
        with torch.enable_grad():
            weights, *gradients = torch.autograd.grad(self(leaf), [leaf, *own])
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient
        return weights
