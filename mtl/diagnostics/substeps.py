"""The optimizer steps inside one training step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.diagnostics.layers import Layers
from mtl.strategies import Strategy


class Substeps:
    """Watches a strategy's optimizers from now on, until `close`.

    Attributes:
        moved: For each optimizer step so far, the sum of absolute changes by layer.
    """

    def __init__(self, strategy: Strategy, layers: Layers) -> None:
        self._tensors = strategy.stepped_tensors()
        self._layers = layers
        self._last = [tensor.detach().clone() for tensor in self._tensors]
        self.moved: list[Tensor] = []
        ids = {id(tensor) for tensor in self._tensors}
        self._handles = [
            optimizer.register_step_post_hook(lambda *_: self._note())
            for optimizer in strategy.optimizers
            if any(id(p) in ids for group in optimizer.param_groups for p in group["params"])
        ]

    @torch.no_grad()
    def _note(self) -> None:
        self.moved.append(self._layers.sums(torch._foreach_sub(self._tensors, self._last)))
        torch._foreach_copy_(self._last, self._tensors)

    def close(self) -> None:
        """Let the optimizers go."""
        for handle in self._handles:
            handle.remove()

    def by_task(self, owners: Sequence[Sequence[int]], gradient_sums: Tensor) -> Tensor:
        """Changes by task and layer, (m, number of layers).

        The change of a step for several tasks is divided among them as their gradients are.

        Args:
            owners: The tasks of each optimizer step.
            gradient_sums: Sums of absolute gradients (m, number of layers), for that division.
        """
        parts = torch.zeros_like(gradient_sums)
        for group, moved in zip(owners, self.moved, strict=True):
            inside = gradient_sums[list(group)]
            total = inside.sum(0)
            parts[list(group)] += moved * torch.where(total > 0, inside / total, 1 / len(group))
        return parts
