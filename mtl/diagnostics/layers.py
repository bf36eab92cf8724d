"""Shared parameters by layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mtl.objective import MultiTaskObjective


class Layers:
    """The modules that own shared parameters, from input to output.

    Modules stand in the order in which a forward pass first enters them; one that none enters (its parameters are used
    by another module) comes last. Tied parameters belong to the module that registers them first.

    Attributes:
        names: Of the modules, in that order, as in `model.named_modules()`.
    """

    def __init__(self, objective: MultiTaskObjective) -> None:
        self._objective = objective
        self._owners = [objective.partition.names[id(p)].rpartition(".")[0] for p in objective.partition.shared]
        self.names: tuple[str, ...] = ()

    @contextmanager
    def ordered(self) -> Iterator[None]:
        """Watch the forward pass inside for the order, unless it is known."""
        if self.names:
            yield
            return
        entered: dict[str, None] = {}
        owners = dict.fromkeys(self._owners)

        def enter(name: str) -> Any:
            return lambda module, inputs: entered.setdefault(name)  # noqa: ARG005

        modules = [(name, m) for name, m in self._objective.model.named_modules() if name in owners]
        handles = [module.register_forward_pre_hook(enter(name)) for name, module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self.names = tuple(entered | owners)

    def sums(self, tensors: Sequence[Tensor]) -> Tensor:
        """Sum of absolute values by layer, (number of layers,), float64 on the CPU.

        Args:
            tensors: One per shared parameter, in their order.
        """
        found = torch.zeros(len(self.names), dtype=torch.float64)
        if tensors:
            values = torch.stack(torch._foreach_norm(list(tensors), 1)).to("cpu", torch.float64)
            found.index_add_(0, torch.tensor([self.names.index(owner) for owner in self._owners]), values)
        return found
