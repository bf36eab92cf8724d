"""The central interface: a strategy turns one batch into one update."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from mtl.datasets.base import Batch, Loader
from mtl.errors import NonFiniteError, RequirementError
from mtl.objective import MultiTaskObjective, require_features
from mtl.validation import check_positive

MakeOptimizer = Callable[[Iterable[Parameter] | Iterable[dict[str, Any]]], Optimizer]
"""Builds a new optimizer of the configured kind for parameters or parameter groups; each call makes another one."""


class Requirement(Enum):
    """What a strategy needs from model and data; checked in `setup`, before data is read."""

    FEATURES = "shared features"
    LAYERS = "layers that run one by one"
    FLOAT32 = "features in float32"


@dataclass(frozen=True)
class StepCost:
    """What a step cost, in units that do not depend on the machine.

    Attributes:
        forwards: Forward passes of the backbone.
        backwards: Backward passes of task losses through a task head, summed over tasks.
        backbone_backwards: Backward passes that reach the backbone's first layer.
        optimizer_steps: Calls of an optimizer on shared parameters.
        samples: Samples read.
    """

    forwards: int = 0
    backwards: int = 0
    backbone_backwards: int = 0
    optimizer_steps: int = 0
    samples: int = 0

    def __add__(self, other: "StepCost") -> "StepCost":
        return StepCost(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.backbone_backwards + other.backbone_backwards,
            self.optimizer_steps + other.optimizer_steps,
            self.samples + other.samples,
        )


@dataclass(frozen=True)
class StepReport:
    """What happened in a step.

    Attributes:
        losses: (m,) task losses before the first update.
        cost: Passes and steps taken.
        weights: (m,) d update / d loss of each task on the shared parameters; None where the update is no weighted sum.
        gramian: (m, m) of the task gradients as the method saw it; None where none was measured in this step.
        groups: Task groups in the order of their updates; None where all tasks update together.
        substeps: Tasks behind each optimizer step on `Strategy.stepped_tensors`, in order; None: all tasks in each.
        affinity: (m, m) so far, row the source task, column the target; None where none is measured, NaN where not yet.
        diagnostics: Further scalars: solver iterations and residuals, fallbacks, numbers of groups.
    """

    losses: Tensor
    cost: StepCost
    weights: Tensor | None = None
    gramian: Tensor | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    substeps: tuple[tuple[int, ...], ...] | None = None
    affinity: Tensor | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)


class Strategy(ABC):
    """How a batch becomes an update: every zero_grad, backward and optimizer step belongs to the strategy.

    A subclass says what it needs in `requirements`, builds `self.optimizers` in `_build` and implements `step`.
    """

    requirements: frozenset[Requirement] = frozenset()
    note: str = ""
    """What has to stand beside every number of this strategy."""
    objective: MultiTaskObjective
    generator: torch.Generator
    optimizers: list[Optimizer]

    def setup(self, objective: MultiTaskObjective, make_optimizer: MakeOptimizer, generator: torch.Generator) -> None:
        """Bind to a model and build the optimizers.

        Args:
            objective: Model and tasks.
            make_optimizer: Builds one optimizer per call.
            generator: The only source of randomness of this strategy (CPU); part of its state.

        Raises:
            RequirementError: the model lacks what `requirements` names.
        """
        if Requirement.FEATURES in self.requirements:
            require_features(objective, type(self).__name__)
        if Requirement.LAYERS in self.requirements and objective.model.compiled:
            raise RequirementError(
                f"{type(self).__name__} with these options looks at the layers of the backbone one by one, and a "
                "compiled backbone runs as a whole. Set trainer.compile=false, or strategy.gramian=exact if it is set "
                "to another way."
            )
        if Requirement.FLOAT32 in self.requirements and objective.model.precision != "float32":
            raise RequirementError(
                f"{type(self).__name__} with these options takes small differences of shared features, of which "
                f"{objective.model.precision} leaves rounding alone. Set trainer.precision=float32, or another "
                "strategy.gramian."
            )
        self.objective = objective
        self.generator = generator
        self.optimizers = []
        self._build(make_optimizer)
        self._parameters = tuple(objective.model.parameters())  # after a strategy may have put its own in between

    def attach(self, loaders: Mapping[str, Loader]) -> None:  # noqa: B027 - most strategies have no use for it
        """Offer the loaders by split, once, before the first step: for methods that read more than the batch.

        Raises:
            RequirementError: a split that the method needs is missing.
        """

    @abstractmethod
    def _build(self, make_optimizer: MakeOptimizer) -> None:
        """Create `self.optimizers` and everything that depends on the model."""

    @abstractmethod
    def step(self, batch: Batch) -> StepReport:
        """The whole update for one batch. On return no `.grad` and no graph is left."""

    def stepped_tensors(self) -> list[Tensor]:
        """What optimizers move in the place of the shared parameters, in their order: these, or buffers of updates."""
        return list(self.objective.shared_parameters())

    def end_epoch(self) -> None:  # noqa: B027 - most strategies have nothing to do
        """Called after the last step of every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: optimizers, state of the maths, generator."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "maths": self._maths_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a strategy built from the same configuration."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self._load_maths_state(state["maths"])

    def _maths_state(self) -> dict[str, Any]:
        return {}

    def _load_maths_state(self, state: Mapping[str, Any]) -> None:
        assert not state

    def _check_gradients(self, batch: Batch) -> None:
        """Raise NonFiniteError if a gradient about to be applied is NaN or infinite; look for its task only then."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients or all_finite(gradients):
            return
        self._clear_gradients()
        raise gradient_error(find_bad_gradients(self.objective, batch))

    def _clear_gradients(self) -> None:
        """As `zero_grad(set_to_none=True)` of every optimizer, in a tenth of the time."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None


def parameter_groups(
    objective: MultiTaskObjective, own: Sequence[Parameter] = (), own_lr: float | None = None
) -> list[dict[str, Any]]:
    """Groups of one optimizer: shared parameters, heads, and a strategy's own parameters without weight decay.

    Args:
        objective: Whose parameters.
        own: Parameters of the strategy itself (log-variances, say).
        own_lr: Their learning rate; None for the common one.
    """
    heads = [p for task in objective.tasks for p in objective.task_parameters(task)]
    groups: list[dict[str, Any]] = [{"params": params} for params in (objective.shared_parameters(), heads) if params]
    if own:
        group: dict[str, Any] = {"params": list(own), "weight_decay": 0.0}
        if own_lr is not None:
            group["lr"] = own_lr
        groups.append(group)
    return groups


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether every entry is finite, for gradients about to be applied: tensors with memory of their own.

    On a CPU by the one call that looks for this, made for loss scaling. It also multiplies every entry, by 1 here, and
    takes half the time of the norms of all tensors.
    """
    if not all(gradient.is_cpu and gradient.layout is torch.strided for gradient in gradients):
        return math.isfinite(sum_of_norms(gradients))
    found = torch.zeros(())
    torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), found, torch.ones(()))
    return not found.item()


def sum_of_norms(tensors: Sequence[Tensor]) -> float:
    """The sum of the norms of `tensors`: finite if and only if every entry is (and no norm overflows)."""
    return torch.stack(torch._foreach_norm(list(tensors))).sum().item()


def gradient_error(bad: tuple[str, ...]) -> NonFiniteError:
    """What to raise for a NaN or infinite gradient of the named tasks; of no single task if there are none."""
    return NonFiniteError(
        f"Non-finite gradient of {' and '.join(bad) or 'the weighted losses'}, while the losses are finite. No "
        "parameter was changed with it. Lower the learning rate, or look for a loss whose derivative is not finite "
        "(a root or a logarithm at 0).",
        bad,
    )


def find_bad_gradients(objective: MultiTaskObjective, batch: Batch) -> tuple[str, ...]:
    """Names of the tasks with a NaN or infinite gradient on this batch; one backward a task."""
    evaluation = objective.evaluate(batch, update_buffers=False)
    bad = []
    for task, loss in zip(objective.tasks, evaluation.losses, strict=True):
        parameters = [*objective.shared_parameters(), *objective.task_parameters(task)]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        if not math.isfinite(sum_of_norms(gradients)):
            bad.append(task)
    return tuple(bad)


class Clipping:
    """The one place where update gradients are clipped: the norm of all network parameters' gradients jointly.

    A strategy calls it when the gradient of an update is complete, before `optimizer.step()`. Parameters of the
    strategy itself (log-variances) do not count and are not clipped: their scale says nothing about the network's.

    Args:
        max_norm: Upper limit of the Euclidean norm, > 0, as in `torch.nn.utils.clip_grad_norm_`; None for no clipping,
            which costs nothing.
    """

    def __init__(self, max_norm: float | None) -> None:
        if max_norm is not None:
            check_positive("max_grad_norm", max_norm)
        self.max_norm = max_norm
        self._norms: list[float] = []

    def __call__(self, objective: MultiTaskObjective) -> None:
        """Scale the network's gradients in place so that their joint norm is at most `max_norm`.

        Raises:
            NonFiniteError: the norm is NaN or infinite. The update was not made.
        """
        if self.max_norm is None:
            return
        tasks = objective.tasks
        parameters = [*objective.shared_parameters(), *(p for task in tasks for p in objective.task_parameters(task))]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm).item()
        if not math.isfinite(norm):
            self._norms.clear()
            raise NonFiniteError(
                f"Non-finite norm of the gradient: {norm}. The update was not made. Lower the learning rate, or check "
                f"the losses of {', '.join(tasks)}."
            )
        self._norms.append(norm)

    def report(self) -> dict[str, float]:
        """Of the step's updates: the largest norm before clipping, and how many were clipped. Empty if none can be."""
        if self.max_norm is None:
            return {}
        clipped = sum(norm > self.max_norm for norm in self._norms)
        found = {"grad_norm": max(self._norms, default=0.0), "grad_clipped": float(clipped)}
        self._norms.clear()
        return found


def check_weights(weights: Tensor, tasks: Sequence[str]) -> Tensor:
    """Return `weights` (m,) if all are finite.

    Raises:
        NonFiniteError: names the tasks. No parameter has been changed yet.
    """
    if not math.isfinite(weights.sum().item()):
        bad = tuple(task for task, weight in zip(tasks, weights.tolist(), strict=True) if not math.isfinite(weight))
        found = ", ".join(f"{task} = {weight}" for task, weight in zip(tasks, weights.tolist(), strict=True))
        raise NonFiniteError(
            f"Non-finite task weights: {found}. No parameter was changed with them. Losses of 0 or of very different "
            "scale are the usual cause; lower the learning rate or rescale the losses.",
            bad,
        )
    return weights
