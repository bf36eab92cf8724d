"""Weights of convolutions in the layout that the backward passes of many tasks want."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtl.gradients.graph import nodes_below

SMALLEST = 1 << 14
"""Entries of a weight from which on it is worth the look."""


@contextmanager
def channels_last_weights(losses: Sequence[Tensor]) -> Iterator[None]:
    """Keep the large convolution weights below `losses` with channels last, where their inputs are.

    A convolution on a CPU copies its weight into the layout of its input in every backward pass: m copies for m tasks,
    here one. The values are the same, so are the results, to the bit. Afterwards the parameters are what they were.
    """
    found = _weights(losses) if len(losses) > 1 else []
    originals = [weight.data for weight in found]
    for weight in found:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for weight, original in zip(found, originals, strict=True):
            weight.data = original


def _weights(losses: Sequence[Tensor]) -> list[nn.Parameter]:
    found = {}
    for node in nodes_below(losses):
        if node.name() != "ConvolutionBackward0":
            continue
        weight = node._saved_weight
        if (
            isinstance(weight, nn.Parameter)
            and weight.device.type == "cpu"
            and weight.dim() == 4
            and weight.numel() >= SMALLEST
            and not weight.is_contiguous(memory_format=torch.channels_last)
            and node._saved_input.is_contiguous(memory_format=torch.channels_last)
        ):
            found[id(weight)] = weight
    return list(found.values())
