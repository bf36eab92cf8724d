"""The multi-task objective: all that a strategy may see of model, batch and losses."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from mtl.datasets.base import Batch
from mtl.errors import NonFiniteError, RequirementError
from mtl.models.model import MultiTaskModel
from mtl.models.view import Features, FeatureView
from mtl.partition import Partition, prove_partition
from mtl.tasks import TaskSpec


@dataclass(frozen=True)
class Evaluation:
    """The losses of one forward pass.

    Attributes:
        tasks: Indices of the tasks in `losses`.
        losses: One scalar per task, with graph. A list: indexing a stacked tensor would send a zero gradient through
            every other head.
        features: The shared representation z as a tuple of tensors with graph; empty if the model has none.
        values: (m,) loss values without graph, in task order; NaN for tasks that were neither evaluated nor measured.
        num_samples: B.
        reads: For each of `losses`, the views of the features that its head alone read, if asked for; else empty.
    """

    tasks: tuple[int, ...]
    losses: list[Tensor]
    features: tuple[Tensor, ...]
    values: Tensor
    num_samples: int
    reads: tuple[tuple[Tensor, ...], ...] = ()


class MultiTaskObjective:
    """Model and tasks joined: batch -> task losses, and which parameters are whose.

    Args:
        model: The network, on its device.
        specs: The tasks; index k everywhere refers to this order.
        partition: Shared and task-specific parameters. By default proven here by autograd reachability.
        input_shape: Shape of one sample, needed for the proof.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        specs: Sequence[TaskSpec],
        input_shape: tuple[int, ...] | None = None,
        partition: Partition | None = None,
    ) -> None:
        self.model = model
        self.specs = tuple(specs)
        self.tasks = tuple(spec.name for spec in specs)
        if partition is None:
            assert input_shape is not None, "either `input_shape` or `partition` is needed"
            partition = prove_partition(model, input_shape)
        self.partition = partition
        self.input_shape = input_shape
        self._list_buffers()

    @property
    def num_tasks(self) -> int:
        """M."""
        return len(self.tasks)

    @property
    def exposes_features(self) -> bool:
        """Whether every shared parameter acts on the losses through shared features alone."""
        return self.partition.exposes_features

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def shared_parameters(self) -> list[Parameter]:
        """Parameters that more than one task reaches (with one task: the backbone's), in the model's order."""
        return list(self.partition.shared)

    def task_parameters(self, task: int | str) -> list[Parameter]:
        """Parameters that only `task` (index or name) reaches."""
        return list(self.partition.task_specific[self.tasks[task] if isinstance(task, int) else task])

    def replace_view(self, view: FeatureView) -> None:
        """Let the tasks see the shared representation through `view` from now on; for a strategy's `setup`."""
        self.model.view = view.to(self.device)
        self._list_buffers()

    def blank_inputs(self) -> Tensor:
        """Two samples of zeros, (2, *input_shape), for strategies that look at the network in `setup`."""
        assert self.input_shape is not None, "this objective was built without `input_shape`"
        like = next(self.model.parameters())
        return torch.zeros((2, *self.input_shape), device=like.device, dtype=like.dtype)

    def evaluate(
        self,
        batch: Batch,
        tasks: Sequence[int] | None = None,
        *,
        update_buffers: bool = True,
        measure: Sequence[int] = (),
        one_backward: bool = False,
        apart: bool = False,
    ) -> Evaluation:
        """One forward pass of the backbone and of the heads asked for.

        Args:
            batch: The mini-batch.
            tasks: Indices of the tasks to evaluate with graph; all for None.
            update_buffers: False leaves running statistics (BatchNorm) as they are: a step moves them once, however
                many forwards it takes.
            measure: Indices of tasks whose loss value is wanted as well, without graph.
            one_backward: The losses will be differentiated together, in one pass. Then many linear heads run as one
                product. Differentiating them apart stays right, and is slower.
            apart: Every head reads views of its own of the shared features (`Evaluation.reads`). Then one call of
                autograd gives the gradients of all tasks at the features and in their heads, told apart.

        Raises:
            NonFiniteError: a loss is NaN or infinite; names the tasks.
        """
        indices = tuple(range(self.num_tasks)) if tasks is None else tuple(tasks)
        with nullcontext() if update_buffers else self._frozen_buffers():
            extra = [index for index in measure if index not in indices]
            features = self.model.features(batch.inputs, [self.tasks[index] for index in (*indices, *extra)])
            reads = self._reads(features, len(indices)) if apart else ()
            losses = self._losses(features, batch, indices, joint=one_backward, reads=reads)
            with torch.no_grad():
                measured = self._losses(features, batch, extra, joint=True)
        values = torch.stack([loss.detach() for loss in losses] + measured)
        order = indices + tuple(extra)
        if order != tuple(range(self.num_tasks)):
            values = values.new_full((self.num_tasks,), torch.nan).index_copy_(
                0, torch.tensor(order, device=values.device), values
            )
        self._check_finite(values, order)
        return Evaluation(indices, losses, self._as_tuple(features), values, batch.num_samples, reads)

    @torch.no_grad()
    def measure(self, batch: Batch) -> Tensor:
        """Loss values (m,) of all tasks at the current parameters; no graph, running statistics untouched."""
        return self.evaluate(batch, (), update_buffers=False, measure=range(self.num_tasks)).values

    @torch.no_grad()
    def features_at(self, values: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, ...]:
        """The shared features of `inputs` at other values of some backbone parameters.

        No graph; parameters and running statistics stay untouched. In training mode the statistics of a normalisation
        are those of this batch, and masks are drawn from the global generators as in any forward.

        Args:
            values: Name within the backbone -> value in the place of that parameter.
            inputs: (B, ...).
        """
        with self._frozen_buffers(), _replaced(self.model.backbone, values):
            features = self.model.features(inputs)
        return self._as_tuple(features)

    def _reads(self, features: Features, count: int) -> tuple[tuple[Tensor, ...], ...]:
        shared = self._as_tuple(features)
        return tuple(tuple(z.view_as(z) for z in shared) for _ in range(count)) if shared else ()

    def _losses(
        self,
        features: Features,
        batch: Batch,
        indices: Sequence[int],
        *,
        joint: bool,
        reads: Sequence[tuple[Tensor, ...]] = (),
    ) -> list[Tensor]:
        specs = [self.specs[index] for index in indices]
        seen: list[Features] = [read[0] if isinstance(features, Tensor) else read for read in reads]
        if not joint:
            return [
                spec.loss(self.model.predict(mine, spec.name), batch.targets[spec.name])
                for spec, mine in zip(specs, seen or [features] * len(specs), strict=True)
            ]
        predictions = self.model.predict_all(features, [spec.name for spec in specs], seen)
        return [spec.loss(predictions[spec.name], batch.targets[spec.name]) for spec in specs]

    def _as_tuple(self, features: Features) -> tuple[Tensor, ...]:
        if not self.exposes_features or isinstance(features, Mapping):
            return ()
        return (features,) if isinstance(features, Tensor) else tuple(features)

    def _check_finite(self, values: Tensor, order: Sequence[int]) -> None:
        if len(order) == self.num_tasks and math.isfinite(values.sum().item()):
            return  # one synchronisation in the ordinary case; a sum that overflows is looked at below
        bad = [index for index in order if not torch.isfinite(values[index])]
        if bad:
            names = tuple(self.tasks[index] for index in bad)
            found = ", ".join(f"{self.tasks[index]} = {values[index].item()}" for index in bad)
            raise NonFiniteError(
                f"Non-finite loss: {found}. No parameter was changed with it. Lower the learning rate, or check the "
                f"data and loss of {' and '.join(names)}.",
                names,
            )

    def _list_buffers(self) -> None:
        modules = list(self.model.modules())
        self._buffers = [(module, name) for module in modules for name, b in module._buffers.items() if b is not None]

    @contextmanager
    def _frozen_buffers(self) -> Iterator[None]:
        """Let a forward write into copies of the buffers.

        Copies instead of restoring values: the graph of an earlier forward may still hold the originals.
        """
        originals = [module._buffers[name] for module, name in self._buffers]
        for (module, name), original in zip(self._buffers, originals, strict=True):
            assert original is not None
            module._buffers[name] = original.clone()
        try:
            yield
        finally:
            for (module, name), original in zip(self._buffers, originals, strict=True):
                module._buffers[name] = original


@contextmanager
def _replaced(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `module` compute with other tensors in the place of the parameters named."""
    places = [(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in values]
    originals = [owner._parameters[name] for owner, name in places]
    for (owner, name), value in zip(places, values.values(), strict=True):
        owner._parameters[name] = value  # type: ignore[assignment] # as torch.func.functional_call does
    try:
        yield
    finally:
        for (owner, name), original in zip(places, originals, strict=True):
            owner._parameters[name] = original


def require_features(objective: MultiTaskObjective, strategy: str) -> None:
    """Raise RequirementError unless the model exposes shared features."""
    if not objective.exposes_features:
        raise RequirementError(
            f"{strategy} needs a model that exposes its shared features; this one exposes none "
            f"({objective.partition.reason}). Use a strategy at the parameter level (`strategy.level=parameters`, "
            "for example strategy=mgda), or a backbone with shared features (for example backbone=lenet)."
        )
