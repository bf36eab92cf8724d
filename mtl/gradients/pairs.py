"""Weight gradients of narrow convolutions, of two tasks at once.

A convolution on a CPU works on blocks of 16 channels: the weight gradient of 20 output channels takes as long as that
of 32, of two tasks as that of 64. As one convolution with 40 output channels both take as long as 48.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.graph import CONVOLUTION, has_hooks, nodes_and_uses
from mtl.objective import Evaluation

BLOCK = 16
GAIN = 0.75
"""Share of the blocks from which on copying two tasks' gradients side by side does not pay."""
LEAST = 1 << 25
"""Multiply-adds of a task's weight gradient from which on the calls around a pair do not outweigh it."""


def is_narrow(weight: Tensor) -> bool:
    """Whether the weight gradients of two tasks fill the blocks better together: with 4, 8, 20 or 24 channels."""
    if weight.dim() != 4 or weight.device.type != "cpu" or weight.dtype != torch.float32 or len(weight) % 4:
        return False
    return math.ceil(2 * len(weight) / BLOCK) <= GAIN * 2 * math.ceil(len(weight) / BLOCK)


class PairedConvolution:
    """One narrow convolution in one step.

    Args:
        node: Of the graph.
        parameters: Weight, and bias if it has one.
        rows: (m, *shape) for each: where their gradients go.

    Attributes:
        place: Where the gradients that `put` needs are.
        parameters: As given.
    """

    def __init__(self, node: Any, parameters: Sequence[Tensor], rows: Sequence[Tensor]) -> None:
        self.place = GradientEdge(node, 0)
        self.parameters = tuple(parameters)
        self._rows = tuple(rows)
        self._inputs = node._saved_input  # the last backward pass frees what the node keeps
        self._options = (node._saved_stride, node._saved_padding, node._saved_dilation)
        self._waiting: list[tuple[int, Tensor]] = []

    def put(self, k: int, gradient: Tensor | None) -> None:
        """Take task k's gradient at the outputs; None if it does not reach them. Tasks come in order."""
        if gradient is None:
            for rows in self._rows:
                rows[k].zero_()
        else:
            self._waiting.append((k, gradient))
        if len(self._waiting) == 2 or (self._waiting and k == len(self._rows[0]) - 1):
            self._write()

    @torch.no_grad()
    def _write(self) -> None:
        weight, channels = self.parameters[0], len(self.parameters[0])
        together = torch.cat([gradient for _, gradient in self._waiting], dim=1)
        unread = weight.new_empty((len(self._waiting) * channels, *weight.shape[1:]))
        found = torch.ops.aten.convolution_backward(
            together,
            self._inputs,
            unread,
            [len(unread)],
            *self._options,
            False,
            [0, 0],
            1,
            [False, True, len(self._rows) > 1],
        )
        for position, (k, _) in enumerate(self._waiting):
            own = slice(position * channels, (position + 1) * channels)
            for rows, gradients in zip(self._rows, found[1:], strict=False):
                rows[k].copy_(gradients[own])
        self._waiting = []


def find_pairs(evaluation: Evaluation, rows: Mapping[int, Tensor], narrow: Collection[int]) -> list[PairedConvolution]:
    """The narrow convolutions of a graph.

    Left out: weights that enter the graph more than once or carry hooks, groups, other than float32 (autocast), little
    work.

    Args:
        evaluation: With graph.
        rows: id of a shared parameter -> (m, *shape): where its gradients go.
        narrow: ids of weights that are narrow.
    """
    nodes, uses = nodes_and_uses(evaluation.features or evaluation.losses)
    found = []
    for node in nodes:
        if node.name() != CONVOLUTION or node._saved_groups != 1 or node._saved_transposed:
            continue
        leaves = [below for below, _ in node.next_functions[1:] if below is not None]
        own = [leaf.variable for leaf in leaves if hasattr(leaf, "variable") and uses[leaf] == 1]
        (output,) = node._input_metadata
        known = len(own) == len(leaves) and all(id(p) in rows and not has_hooks(p) for p in own)
        if not known or not own or id(own[0]) not in narrow or node._saved_input.dtype != torch.float32:
            continue
        if own[0].numel() * math.prod(output.shape) // output.shape[1] >= LEAST:
            found.append(PairedConvolution(node, own, [rows[id(parameter)] for parameter in own]))
    return found
