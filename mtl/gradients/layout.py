"""Weights of convolutions in the layout that the passes of many tasks want."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtl.gradients.graph import CONVOLUTION, nodes_below

LEAST_TASKS, LEAST_ENTRIES = 16, 1 << 14
"""From how many tasks, and for weights of how many entries on it is worth the memory of a copy."""


class WeightLayout:
    """Keeps large convolution weights with channels last during the passes of a step, where their inputs are.

    A convolution on a CPU copies its weight into the layout of its input in every forward and backward pass: m copies
    for m tasks, here one. The values are the same, so are the results, to the bit. Outside `applied` the parameters are
    what they were.
    """

    def __init__(self) -> None:
        self._weights: tuple[nn.Parameter, ...] = ()
        self._copies: list[Tensor] = []

    def learn(self, outputs: Sequence[Tensor], num_tasks: int) -> None:
        """Look at the graph below `outputs` for the weights that are worth it, for this and later steps."""
        found = tuple(_weights(outputs)) if num_tasks >= LEAST_TASKS else ()
        if [id(weight) for weight in found] != [id(weight) for weight in self._weights]:
            self._weights = found
            self._copies = []

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the parameters hold their copies."""
        if not self._copies:
            self._copies = [w.data.contiguous(memory_format=torch.channels_last) for w in self._weights]
        originals = [weight.data for weight in self._weights]
        for weight, copy in zip(self._weights, self._copies, strict=True):
            weight.data = copy
        try:
            yield
        finally:
            for weight, original in zip(self._weights, originals, strict=True):
                weight.data = original

    def forget(self) -> None:
        """Drop the copies: the parameters are about to change."""
        self._copies = []


def _weights(outputs: Sequence[Tensor]) -> Iterator[nn.Parameter]:
    seen = set()
    for node in nodes_below(outputs):
        if node.name() != CONVOLUTION:
            continue
        weight = node._saved_weight
        if (
            isinstance(weight, nn.Parameter)
            and id(weight) not in seen
            and weight.device.type == "cpu"
            and weight.dim() == 4
            and weight.numel() >= LEAST_ENTRIES
            and not weight.is_contiguous(memory_format=torch.channels_last)
            and node._saved_input.is_contiguous(memory_format=torch.channels_last)
        ):
            seen.add(id(weight))
            yield weight
