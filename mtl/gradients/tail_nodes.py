"""Which nodes of a graph make up the tail: those with a rule, on maps that are few and small."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl.gradients.graph import CONVOLUTION, has_hooks, nodes_and_uses
from mtl.gradients.tail_rules import LEAF, MOST_POSITIONS, PARAMETERS, RULES, parameter_of

LEAST_NORMALISED = 8
"""Of fewer values a channel, what BatchNorm passes on is rounding, and would agree with autograd by chance only."""
Place = tuple[Any, int]
"""A node and the number of its output."""


def find_nodes(output: Tensor, shared: set[int]) -> list[Any]:
    """In an order in which every node comes after all that read it; ends with a convolution. Empty if there is none."""
    above, node = [], output.grad_fn
    while node is not None and node.name() not in RULES:  # pooling and reshaping are left to autograd
        above.append(node)
        followed = [found for found, _ in node.next_functions if found is not None]
        node = followed[0] if len(followed) == 1 else None
    if node is None or not _is_small(node):
        return []  # maps only grow on the way down
    _, incoming = nodes_and_uses([output])
    if any(incoming[found] > 1 for found in (*above, node)):
        return []
    ready, nodes, waiting = [node], [], incoming.copy()
    for node in ready:  # grows while it is read
        if _is_known(node, incoming, shared):
            nodes.append(node)
            for found, _ in activations(node):
                waiting[found] -= 1
                if not waiting[found]:
                    ready.append(found)
    while nodes and nodes[-1].name() != CONVOLUTION:
        nodes.pop()
    return nodes


def _is_known(node: Any, incoming: Mapping[Any, int], shared: set[int]) -> bool:
    """Whether there is a rule for exactly this node, and its parameters have no other use."""
    if node.name() not in RULES or not _is_small(node):
        return False
    for found, output in activations(node):
        if found is None or found.name() == LEAF:
            return False
        if node.name() == "AddBackward0" and tuple(found._input_metadata[output].shape) != shape_of(node):
            return False
        if found._input_metadata[output].dtype != node._input_metadata[0].dtype:
            return False
    for position in PARAMETERS.get(node.name(), ()):
        leaf = node.next_functions[position][0]
        if leaf is None:
            continue
        own = leaf.name() == LEAF and id(leaf.variable) in shared and incoming[leaf] == 1
        if not own or has_hooks(leaf.variable):
            return False
    if node.name() == "AddBackward0":
        return bool(node._saved_alpha == 1)
    if node.name() == "NativeBatchNormBackward0":
        return not node._saved_training or _positions(node) >= LEAST_NORMALISED
    if node.name() != CONVOLUTION:
        return True
    return not node._saved_transposed and parameter_of(node, 1) is not None


def _is_small(node: Any) -> bool:
    """Whether the output are maps that are few and small."""
    return len(shape_of(node)) == 4 and _positions(node) <= MOST_POSITIONS


def _positions(node: Any) -> int:
    batch, _, height, width = shape_of(node)
    return batch * height * width


def activations(node: Any) -> tuple[Place, ...]:
    """Where the gradients of `node` go that are not those of its parameters."""
    known = PARAMETERS.get(node.name(), ())
    return tuple(place for position, place in enumerate(node.next_functions) if position not in known)


def parameters(node: Any) -> list[Tensor]:
    """The leaves that `node` reads as its parameters."""
    found = (parameter_of(node, position) for position in PARAMETERS.get(node.name(), ()))
    return [leaf for leaf in found if leaf is not None]


def shape_of(node: Any) -> tuple[int, ...]:
    """Of the output of `node`."""
    return tuple(node._input_metadata[0].shape)
