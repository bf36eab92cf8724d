"""The last stages of a convolutional backbone, differentiated for several tasks at once.

On small maps a convolution's backward pass mostly reads its weight: at the inputs of 512 channels on 2x2 maps, batch
16, it takes 3.7 ms a task one by one, 1.3 ms a task for eight of them as one batch. autograd cannot do that (its own
batched mode takes BatchNorm apart task by task), so the passes of several tasks go through these nodes here, by rules
of our own, with what autograd saved. Where that ends autograd goes on, task by task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.graph import CONVOLUTION
from mtl.gradients.tail_nodes import Place, activations, find_nodes, parameters, shape_of
from mtl.gradients.tail_rules import RULES, Patches, Rows, parameter_of, write_weights
from mtl.objective import Evaluation

LEAST_TASKS = 2
AGREEMENT = 1e-3
"""Relative difference to autograd's gradients from which on a graph is left to autograd."""

Signature = tuple[tuple[str, tuple[int, ...]], ...]
Sink = Callable[[int, Tensor], None]
"""(first task, gradients (T, B, C, H, W) of T tasks from that one on) -> None."""


class Tail:
    """The nodes of one graph that are differentiated for several tasks at once, from `root` down to `places`.

    Attributes:
        root: Where the gradients of the tasks come in.
        places: Where they go on, one by one.
        parameters: ids of the parameters whose gradients are found in between.
        weights: Those of them that are weights of convolutions.
    """

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._nodes = tuple(nodes)
        self._convolutions = tuple(node for node in nodes if node.name() == CONVOLUTION)
        inside = set(nodes)
        self._ends: tuple[Place, ...] = tuple(
            dict.fromkeys(place for node in nodes for place in activations(node) if place[0] not in inside)
        )
        self.root = GradientEdge(nodes[0], 0)
        self.places = tuple(GradientEdge(*place) for place in self._ends)
        self.parameters = frozenset(id(leaf) for node in nodes for leaf in parameters(node))
        self.weights = frozenset(id(parameter_of(node, 1)) for node in self._convolutions)
        self._patches: Patches = {}

    def signature(self) -> Signature:
        """Kind and output shape of every node: what the graphs of two steps with inputs of one shape share."""
        return tuple((node.name(), shape_of(node)) for node in self._nodes)

    def nothing(self) -> Tensor:
        """Zeros at `root`: of a task that does not read the features."""
        output = self._nodes[0]._input_metadata[0]
        return torch.zeros(tuple(output.shape), dtype=output.dtype, device=output.device)

    @torch.no_grad()
    def run(self, gradient: Tensor, rows: Rows, sinks: Mapping[int, Sink], first: int = 0) -> list[Tensor]:
        """Gradients (T, ...) at `places` of T tasks.

        Args:
            gradient: (T, ...) at `root`.
            rows: Where the gradients of parameters go.
            sinks: id of a convolution's weight -> what receives the gradients at the outputs of the convolution.
            first: Number of the first of the T tasks, for `sinks`.
        """
        held: dict[Place, Tensor] = {(self._nodes[0], 0): gradient}
        for node in self._nodes:
            own = held[node, 0]
            for leaf in parameters(node):
                if id(leaf) in sinks:
                    sinks[id(leaf)](first, own)
            self._pass_on(node, held, rows, self._patches)
        return [held[place] for place in self._ends]

    def _pass_on(self, node: Any, held: dict[Place, Tensor], rows: Rows, patches: Patches) -> None:
        """Take the gradients at the output of `node` out of `held`, and put in those at what it reads."""
        own = held.pop((node, 0))
        for place, part in zip(activations(node), RULES[node.name()](node, own, rows, patches), strict=True):
            held[place] = held[place] + part if place in held else part

    @torch.no_grad()
    def weight_gradient(self, weight: int, gradient: Tensor) -> Tensor:
        """The gradient of a convolution's weight (its id), given one task's at the outputs (B, C, H, W)."""
        (node,) = (node for node in self._convolutions if id(parameter_of(node, 1)) == weight)
        like: Tensor = node._saved_weight
        rows: Tensor = like.new_empty(like.permute(0, 2, 3, 1).shape).movedim(-1, 1)  # as autograd gives it
        write_weights(node, gradient[None], rows[None], self._patches)
        return rows

    def agrees(self) -> bool | None:
        """Whether the rules and autograd find the same for a gradient drawn at `root`; None where autograd's are zeros.

        Compared at the outputs of all convolutions, for parameters, and at `places`. A hook on an activation shows
        here: autograd calls it, the rules would pass it by. Biases of convolutions are left out: before BatchNorm their
        gradients are rounding. Node by node, so that the memory is that of one layer's parameters.
        """
        drawn = torch.randn(self.nothing().shape, generator=torch.Generator().manual_seed(0)).to(self.nothing())
        edges = [*(GradientEdge(node, 0) for node in self._nodes), *self.places]
        found = torch.autograd.grad([self.root], edges, [drawn], retain_graph=True)
        if not all(bool(own.any()) for own in found):
            return None
        at_nodes = dict(zip(self._nodes, found, strict=False))
        held: dict[Place, Tensor] = {(self._nodes[0], 0): torch.stack([drawn, -2 * drawn])}
        verdicts: list[bool | None] = []
        for node in self._nodes:
            if node.name() == CONVOLUTION:
                verdicts.append(_same(held[node, 0], at_nodes[node]))
            verdicts += self._compare(node, held, at_nodes[node])
        # one place may be below another: then what comes from there is not in what the rules give
        ends = [torch.autograd.grad(self.places, self.places, end, retain_graph=True) for end in self._both(held)]
        verdicts += [_same(torch.stack(two), own) for *two, own in zip(*ends, found[len(at_nodes) :], strict=True)]
        return False if False in verdicts else None if None in verdicts else True

    def _compare(self, node: Any, held: dict[Place, Tensor], at_node: Tensor) -> list[bool | None]:
        """Pass on two tasks' gradients; compare those of the node's parameters, `at_node` being autograd's at it."""
        bias = parameter_of(node, 2) if node.name() == CONVOLUTION else None
        leaves = [leaf for leaf in parameters(node) if leaf is not bias]
        output = [GradientEdge(node, 0)]
        expected = torch.autograd.grad(output, leaves, [at_node], retain_graph=True) if leaves else ()
        rows = {id(leaf): leaf.new_empty((2, *leaf.shape)) for leaf in leaves}
        with torch.no_grad():
            self._pass_on(node, held, rows, {})
        return [_same(rows[id(leaf)], own) for leaf, own in zip(leaves, expected, strict=True)]

    def _both(self, held: Mapping[Place, Tensor]) -> list[tuple[Tensor, ...]]:
        return list(zip(*(held[place] for place in self._ends), strict=True))


def _same(two: Tensor, expected: Tensor) -> bool | None:
    """Whether `two` are `expected` and -2 times that; None if that is all zeros."""
    if not expected.any():
        return None
    limit = AGREEMENT * expected.norm()
    off = (torch.sub(own, expected, alpha=factor).norm() for own, factor in zip(two, (1, -2), strict=True))
    return all(bool(distance <= limit) for distance in off)


class Tails:
    """Finds the tail of each step's graph.

    The first time that a graph of its kind and shapes is seen, gradients are compared with autograd's; a kind that
    differs is left to autograd from then on.

    Args:
        shared: The shared parameters.
    """

    def __init__(self, shared: Sequence[Tensor]) -> None:
        self._shared = {id(parameter) for parameter in shared}
        self._agreed: dict[Signature, bool] = {}

    @property
    def diagnostics(self) -> dict[str, float]:
        """`tail_refused`: kinds of graphs that are left to autograd because their gradients differed, if any."""
        refused = sum(not agreed for agreed in self._agreed.values())
        return {"tail_refused": float(refused)} if refused else {}

    def find(self, evaluation: Evaluation) -> Tail | None:
        """The tail below the shared features; None if there are too few tasks or no stages that gain."""
        if len(evaluation.losses) < LEAST_TASKS or len(evaluation.features) != 1:
            return None
        nodes = find_nodes(evaluation.features[0], self._shared)
        if not nodes:
            return None
        tail = Tail(nodes)
        signature = tail.signature()
        if signature not in self._agreed:
            agrees = tail.agrees()
            if agrees is None:  # a branch that is still multiplied by 0 tells nothing: one by one, and look again
                return None
            self._agreed[signature] = agrees
        return tail if self._agreed[signature] else None
