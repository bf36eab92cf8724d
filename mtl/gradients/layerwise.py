"""Task gradients of some shared parameters, of large layers without their rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn import Parameter

from mtl.gradients.ghost_layer import Capture, GhostLayer, Sized, Sizes, can_be_ghost, capture
from mtl.gradients.graph import Uses, has_hooks
from mtl.gradients.tail import Sink
from mtl.gradients.tail_rules import Rows
from mtl.gradients.tensors import copy_rows, set_gradients, views
from mtl.numerics import gramian
from mtl.objective import Evaluation, MultiTaskObjective

Choose = Callable[[Sizes, int], bool]
"""(sizes of a layer, number of tasks) -> whether the layer goes without rows."""


class LayerwiseGradients:
    """What is kept of each task's gradient: for chosen layers the gradient at their outputs, for all else a row.

    Between `watching` and `clear` it holds one step: the forward pass, `choose_layers` and `begin`; `put` takes one
    task after the other, `gramian` and `combine` follow. No forward pass outside `watching` is seen.

    Which layers `choose` wants is asked once for a shape of the inputs. From then on only these are looked at, and none
    at all if none is wanted.

    Args:
        objective: Whose model.
        parameters: Some of the shared parameters.
        choose: Which layers go without rows, among those that can.

    Attributes:
        layers: Name -> layer of those that go without rows in this step.
        refused: Names of layers that `choose` wanted and that had to keep rows: called more than once or with a
            keyword, weights used elsewhere too, made of others or with hooks, inputs changed later, hooks of others, a
            forward or a padding that is not torch's.
        rows: id of a parameter of `begin`'s tail -> (m, *shape): where its gradients go.
        sinks: id of the weight of a layer without rows, in that tail -> what takes the gradients at its outputs.
    """

    def __init__(self, objective: MultiTaskObjective, parameters: Sequence[Parameter], choose: Choose) -> None:
        self.parameters = tuple(parameters)
        self.choose = choose
        self.num_tasks = objective.num_tasks
        self.layers: dict[str, GhostLayer] = {}
        self.refused: tuple[str, ...] = ()
        self.rows: Rows = {}
        self.sinks: dict[int, Sink] = {}
        self._plain: tuple[Parameter, ...] = ()
        self._matrix = torch.empty(0)
        self._pieces: list[list[Tensor]] = []
        self._one_by_one: list[GhostLayer] = []
        self._captures: dict[str, list[Capture]] = {}
        self._wanted: dict[torch.Size, tuple[str, ...]] = {}
        self._shape = torch.Size()
        known = {id(parameter) for parameter in self.parameters}
        self._modules: dict[str, Sized] = {
            name: module
            for name, module in objective.model.named_modules()
            if isinstance(module, Sized) and _trains(module, known)
        }

    def is_idle(self, shape: torch.Size) -> bool:
        """Whether it is known that no layer gains with inputs of this shape: then there is nothing to watch."""
        return not self._wanted.get(shape, self._modules) and not self._captures

    @contextmanager
    def watching(self, shape: torch.Size) -> Iterator[None]:
        """Keep of the forward pass of inputs of this shape what `choose_layers` needs."""
        self.clear()
        self._shape = shape
        handles = [
            self._modules[name].register_forward_hook(_keeper(self._captures, name))
            for name in self._wanted.get(shape, self._modules)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def choose_layers(self, evaluation: Evaluation) -> bool:
        """Decide which layers go without rows in this step; return whether any does."""
        self.layers = self._choose(evaluation)
        return bool(self.layers)

    def begin(self, tail: frozenset[int] = frozenset()) -> list[Tensor | GradientEdge]:
        """Make room; return the places whose gradients `put` needs of every task.

        Args:
            tail: ids of parameters whose gradients go into `rows` and `sinks`, not through `put`.
        """
        without = {id(p) for layer in self.layers.values() for p in layer.module.parameters()}
        self._plain = tuple(p for p in self.parameters if id(p) not in without)
        shape = (self.num_tasks, sum(p.numel() for p in self._plain))
        if self._matrix.shape != shape:
            like = next(iter(self.parameters), torch.empty(0))
            self._matrix = torch.zeros(shape, dtype=like.dtype, device=like.device)
        columns = list(zip(self._plain, views(self._matrix, self._plain, channels_last=True), strict=True))
        layers = list(self.layers.values())
        self.rows = {id(p): column for p, column in columns if id(p) in tail}
        self.sinks = {id(found.module.weight): found.put_all for found in layers if id(found.module.weight) in tail}
        self._one_by_one = [layer for layer in layers if id(layer.module.weight) not in tail]
        rest = [(p, column) for p, column in columns if id(p) not in tail]
        self._pieces = [[column[k] for _, column in rest] for k in range(self.num_tasks)]
        return [*(layer.capture.edge for layer in self._one_by_one), *(p for p, _ in rest)]

    def put(self, k: int, found: tuple[Tensor | None, ...]) -> None:
        """Take task k's gradients at the places of `begin`; None for those that it does not reach."""
        for layer, gradient in zip(self._one_by_one, found, strict=False):
            layer.put(k, gradient)
        copy_rows(self._pieces[k], found[len(self._one_by_one) :])

    def gramian(self) -> Tensor:
        """(m, m) over all parameters, float64 on the CPU."""
        total = gramian(self._matrix)
        for layer in self.layers.values():
            total += layer.gramian()
        return total

    def combine(self, weights: Tensor) -> None:
        """`.grad` = sum_k weights[k] g_k. `weights`: (m,)."""
        scaled = weights.to(self._matrix)
        set_gradients(self._plain, views(torch.mv(self._matrix.T, scaled), self._plain, channels_last=True))
        for layer in self.layers.values():
            weight, bias = layer.combined(scaled)
            set_gradients([layer.module.weight], [weight])
            if layer.module.bias is not None and bias is not None:
                set_gradients([layer.module.bias], [bias])

    def clear(self) -> None:
        """Forget the step, and every captured input."""
        self._captures.clear()
        self.layers = {}
        self.sinks = {}
        self._one_by_one = []

    def _choose(self, evaluation: Evaluation) -> dict[str, GhostLayer]:
        """The layers to go without rows: wanted, called once, and used once in this graph."""
        seen = self._captures
        if self._shape not in self._wanted and seen:
            self._wanted[self._shape] = tuple(name for name, found in seen.items() if self._wants(name, found))
        wanted = [name for name in self._wanted.get(self._shape, ()) if name in seen]
        if not wanted:
            self.refused = ()
            return {}
        uses, chosen = Uses(evaluation.losses), {}
        for name in wanted:
            module = self._modules[name]
            here = [found for found in seen[name] if uses.contains(found.edge.node)]
            if len(here) != 1 or not here[0].is_whole or not can_be_ghost(module):
                continue
            if module._forward_hooks or any(map(has_hooks, module.parameters())):
                continue
            if all(uses.only_through(p, here[0].edge.node) for p in module.parameters()):
                chosen[name] = GhostLayer(module, here[0], self.num_tasks)
        self.refused = tuple(name for name in wanted if name not in chosen)
        return chosen

    def _wants(self, name: str, found: Sequence[Capture]) -> bool:
        sizes = (Sizes.of(self._modules[name], one.output_shape) for one in found)
        return any(self.choose(size, self.num_tasks) for size in sizes)


def _trains(module: nn.Module, known: set[int]) -> bool:
    """Whether `module` trains a weight, and nothing but the parameters in `known`."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return any(p.dim() > 1 for p in trained) and all(id(p) in known for p in trained)


def _keeper(captures: dict[str, list[Capture]], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled() and isinstance(output, Tensor) and output.requires_grad:
            captures.setdefault(name, []).append(capture(inputs, output))

    return keep
