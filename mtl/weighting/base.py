"""Loss weightings: loss values to task weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from mtl.errors import ConfigError, NonFiniteError
from mtl.validation import check_non_negative


class LossWeighting(nn.Module, ABC):
    """Loss values (m,) -> weights (m,), where weight k = d (trained scalar) / d (loss k).

    Knows numbers only: no model, no gradient of the model. State that the next step depends on is in buffers and
    parameters, so that `state_dict()` holds it; `setup` creates them before any state is loaded.
    """

    lr: float | None = None
    """Learning rate of own parameters; None for the common one."""
    needs_losses_after: bool = False
    """Whether `observe_after` has to be called after every update; it costs a forward pass."""
    diagnostics: Mapping[str, float] = {}
    """Scalars about the latest call, for the record."""

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

    def observe_after(self, losses: Tensor) -> None:
        """Take the losses (m,) of the same batch after the update, if `needs_losses_after`."""
        raise NotImplementedError

    def end_epoch(self) -> None:
        """Called after the last step of every epoch."""

    def trained_parameters(self) -> list[Parameter]:
        """Own parameters that the strategy's optimizer trains; none if the weighting trains them itself."""
        return list(self.parameters())


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


def match_tasks(
    name: str,
    values: float | Sequence[float] | Mapping[str, float],
    tasks: tuple[str, ...],
    check: Callable[[str, object], None] = check_non_negative,
) -> list[float]:
    """One number per task, in task order.

    Args:
        name: The option's name, for messages.
        values: One number for all tasks, a list in task order, or a mapping task name -> number.
        tasks: Their names.
        check: Raises ConfigError for a number out of range.

    Raises:
        ConfigError: a task has no number, or a number no task.
    """
    if isinstance(values, Mapping):
        if set(values) != set(tasks):
            raise ConfigError(
                f"Parameter `{name}` should name exactly the tasks {', '.join(tasks)}. Found `{name} = {dict(values)}`."
            )
        found = [values[task] for task in tasks]
    elif isinstance(values, Sequence):
        found = list(values)
        if len(found) != len(tasks):
            raise ConfigError(
                f"Parameter `{name}` should have one number for each of the {len(tasks)} tasks "
                f"({', '.join(tasks)}). Found `{name} = {found}`."
            )
    else:
        found = [values] * len(tasks)
    check_all(name, found, check)
    return [float(value) for value in found]


def check_all(
    name: str,
    values: float | Sequence[float] | Mapping[str, float],
    check: Callable[[str, object], None] = check_non_negative,
) -> None:
    """Check every number of an option that `match_tasks` will match: what can be said before the tasks are known."""
    if isinstance(values, Mapping):
        values = list(values.values())
    for value in values if isinstance(values, Sequence) else [values]:
        check(name, value)


def require_losses(valid: Tensor, losses: Tensor, tasks: tuple[str, ...], method: str, rule: str) -> None:
    """Raise unless every loss is one that the method is defined for.

    Args:
        valid: (m,) truth values.
        losses: (m,) loss values.
        tasks: Names of the m tasks.
        method: Its name, for the message.
        rule: What each loss should be ("> 0").

    Raises:
        NonFiniteError: names the tasks; their weight or logarithm would not be finite.
    """
    if valid.all():
        return
    bad = tuple(task for task, good in zip(tasks, valid.tolist(), strict=True) if not good)
    found = ", ".join(f"{task} = {value}" for task, value in zip(tasks, losses.tolist(), strict=True) if task in bad)
    raise NonFiniteError(
        f"{method} is defined for losses {rule}. Found {found}. Choose a loss that cannot get there, or another "
        f"weighting for {' and '.join(bad)}.",
        bad,
    )
