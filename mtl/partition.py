"""Which parameters are shared and which belong to one task, proven by autograd reachability."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from mtl.errors import ConfigError
from mtl.models.model import MultiTaskModel


@dataclass(frozen=True)
class Partition:
    """The split of a model's trainable parameters.

    Attributes:
        shared: Parameters that at least two tasks reach; with a single task, those below its features.
        task_specific: Task name -> parameters that this task alone reaches.
        names: Parameter id -> name in the model.
        exposes_features: Every shared parameter acts through one shared representation, and every task-specific one
            acts after it. Then task gradients can be taken at the features.
        reason: Why not, where `exposes_features` is false.
        last_shared: The shared parameters of the layer nearest to the features.
    """

    shared: tuple[Parameter, ...]
    task_specific: Mapping[str, tuple[Parameter, ...]]
    names: Mapping[int, str]
    exposes_features: bool
    reason: str
    last_shared: tuple[Parameter, ...]

    def describe(self) -> str:
        """One line per part, with counts of parameters, for the log at start-up."""
        rows = [f"shared: {_count(self.shared):,} parameters in {len(self.shared)} tensors"]
        for task, own in self.task_specific.items():
            rows.append(f"{task} alone: {_count(own):,} parameters in {len(own)} tensors")
        rows.append("shared features: yes" if self.exposes_features else f"shared features: no ({self.reason})")
        return "\n".join(rows)


def prove_partition(model: MultiTaskModel, input_shape: tuple[int, ...]) -> Partition:
    """Run the model once on zeros (evaluation mode, nothing is updated) and walk each task's graph.

    Raises:
        ConfigError: a trainable parameter that no task reaches, or a task that reaches none.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            features = model.features(torch.zeros((2, *input_shape), device=device))
            predictions = {task: model.predict(features, task) for task in model.tasks}
    finally:
        model.train(was_training)
    trainable = {id(p): (name, p) for name, p in model.named_parameters() if p.requires_grad}
    reach = {task: _reachable([prediction]) for task, prediction in predictions.items()}
    readers = {key: [task for task in model.tasks if key in reach[task]] for key in trainable}
    unused = [trainable[key][0] for key, tasks in readers.items() if not tasks]
    if unused:
        raise ConfigError(
            f"No task reaches the trainable parameters {', '.join(unused[:5])}{' ...' if len(unused) > 5 else ''}: "
            "they would never be trained. Remove them, or set requires_grad to False."
        )

    below: set[int] = set()
    reason = ""
    z: list[Tensor] = []
    if isinstance(features, Mapping):
        reason = "its backbone returns a representation per task"
    else:
        z = [features] if isinstance(features, Tensor) else list(features)
        below = _reachable(z)
        bypass = _reachable(predictions.values(), stop=z) & below
        if bypass:
            reason = f"{trainable[next(iter(bypass))][0]} also reaches a task past the features"
        if any(_nodes([one]) & {other.grad_fn for other in z if other is not one} for one in z):
            reason = "one of its features is computed from another"

    single = len(model.tasks) == 1
    is_shared = {key: (key in below if single and z else len(tasks) > 1) for key, tasks in readers.items()}
    shared = tuple(p for key, (_, p) in trainable.items() if is_shared[key])
    own = {
        task: tuple(p for key, (_, p) in trainable.items() if not is_shared[key] and readers[key] == [task])
        for task in model.tasks
    }
    if not reason and {id(p) for p in shared} != below:
        reason = "some shared parameters do not lie below its features"
    return Partition(
        shared=shared,
        task_specific=own,
        names={key: name for key, (name, _) in trainable.items()},
        exposes_features=not reason,
        reason=reason,
        last_shared=_last_layer(model, z or list(predictions.values()), {id(p) for p in shared}),
    )


def _reachable(outputs: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> set[int]:
    """Ids of the leaf parameters that the graphs of `outputs` reach without passing through `stop`."""
    return {id(leaf) for leaf in _walk(outputs, stop)}


def _nodes(outputs: Iterable[Tensor]) -> set[Any]:
    """The nodes below the graphs of `outputs`, without their own."""
    own = {tensor.grad_fn for tensor in outputs}
    queue = list(own)
    seen = set(own)
    for node in queue:
        for below, _ in node.next_functions if node is not None else ():
            if below is not None and below not in seen:
                seen.add(below)
                queue.append(below)
    return seen - own


def _walk(outputs: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> Iterable[Tensor]:
    """Leaf tensors of a graph, nearest first."""
    blocked = {tensor.grad_fn for tensor in stop}
    queue = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None and tensor.grad_fn not in blocked]
    seen = set(queue)
    for node in queue:  # grows while it is read: breadth first
        if hasattr(node, "variable"):
            yield node.variable
        for below, _ in node.next_functions:
            if below is not None and below not in seen and below not in blocked:
                seen.add(below)
                queue.append(below)


def _last_layer(model: MultiTaskModel, outputs: list[Tensor], shared: set[int]) -> tuple[Parameter, ...]:
    """The shared parameters of the module that owns the shared weight (two axes or more) nearest to `outputs`."""
    owner = {id(p): module for module in model.modules() for p in module.parameters(recurse=False)}
    for leaf in _walk(outputs):
        if id(leaf) in shared and leaf.ndim >= 2:
            return tuple(p for p in owner[id(leaf)].parameters(recurse=False) if id(p) in shared)
    return ()


def _count(parameters: Iterable[Parameter]) -> int:
    return sum(p.numel() for p in parameters)
