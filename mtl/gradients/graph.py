"""How often, and on which way, a parameter enters a graph."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor

CONVOLUTION = "ConvolutionBackward0"


def nodes_below(outputs: Iterable[Tensor]) -> list[Any]:
    """All nodes of the graph of `outputs`, nearest first."""
    return nodes_and_uses(outputs)[0]


def nodes_and_uses(outputs: Iterable[Tensor]) -> tuple[list[Any], Counter[Any]]:
    """All nodes of the graph of `outputs`, nearest first, and how many of its edges end in each."""
    queue = list(dict.fromkeys(output.grad_fn for output in outputs if output.grad_fn is not None))
    seen: set[Any] = set(queue)
    uses: Counter[Any] = Counter()
    for node in queue:  # grows while it is read
        for below, _ in node.next_functions:
            if below is not None:
                uses[below] += 1
                if below not in seen:
                    seen.add(below)
                    queue.append(below)
    return queue, uses


def has_hooks(parameter: Tensor) -> bool:
    """Whether a hook would see, and may change, a gradient of this parameter that autograd computes."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


class Uses:
    """The graph below `outputs`, read once."""

    def __init__(self, outputs: Iterable[Tensor]) -> None:
        self._incoming: Counter[Any] = Counter()
        self._parent: dict[Any, Any] = {}
        self._leaf: dict[int, Any] = {}
        queue = [output.grad_fn for output in outputs if output.grad_fn is not None]
        seen = self._nodes = set(queue)
        for node in queue:  # grows while it is read
            if hasattr(node, "variable"):
                self._leaf[id(node.variable)] = node
            for below, _ in node.next_functions:
                if below is None:
                    continue
                self._incoming[below] += 1
                self._parent[below] = node
                if below not in seen:
                    seen.add(below)
                    queue.append(below)

    def contains(self, node: Any) -> bool:
        """Whether `node` is part of the graph."""
        return node in self._nodes

    def only_through(self, parameter: Tensor, node: Any) -> bool:
        """Whether `parameter` is used once, and everything computed from it goes through `node`, its only reader."""
        current = self._leaf.get(id(parameter))
        while current is not None and current is not node:
            if self._incoming[current] != 1:
                return False
            current = self._parent.get(current)
        return current is node
