"""Vector-Jacobian products of several tasks at once, for the nodes of which the last stages of a network are made.

A gradient is (T, B, C, H, W): of T tasks, at the output of a node. What autograd saved for one pass serves all of them.
Each rule returns the gradients at the activations that the node reads, and writes those of its parameters into rows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mtl.gradients.graph import CONVOLUTION

LEAF = "torch::autograd::AccumulateGrad"
FEW_POSITIONS = 128
"""Up to so many output positions of a batch the weight gradients of all tasks are products of the unfolded inputs,
written where they belong; from there on a convolution of each task is faster, and its copy."""
MOST_POSITIONS = 1024
"""Up to so many output positions of a batch a convolution for several tasks is faster: it mostly reads its weight."""

Rows = Mapping[int, Tensor]
"""id of a parameter -> (T, *shape): where the gradients of the T tasks go; of those that are wanted."""
Patches = dict[tuple[Any, bool], Tensor]
"""The unfolded inputs of convolutions, by node and order of entries: made for the first tasks, kept for the others."""


def parameter_of(node: Any, position: int) -> Tensor | None:
    """The leaf that a node reads at this position; None if nothing is differentiated there."""
    below = node.next_functions[position][0]
    return None if below is None else below.variable


def relu(node: Any, gradient: Tensor, _: Rows, __: Patches) -> tuple[Tensor, ...]:
    """Where the output is positive."""
    return (torch.ops.aten.threshold_backward(gradient, node._saved_result, 0),)


def add(_: Any, gradient: Tensor, __: Rows, ___: Patches) -> tuple[Tensor, ...]:
    """To both."""
    return gradient, gradient


def batch_norm(node: Any, gradient: Tensor, rows: Rows, _: Patches) -> tuple[Tensor, ...]:
    """With the statistics of the batch, or the running ones as constants.

    With n values a channel, x^ normalised, s = sum dy and p = sum dy x^:  dx = (dy - s / n - x^ p / n) weight / std.
    """
    inputs, weight = node._saved_input, node._saved_weight
    if node._saved_training:
        mean, inverse = node._saved_result1, node._saved_result2
    else:
        mean, inverse = node._saved_running_mean, (node._saved_running_var + node._saved_eps).rsqrt()
    values = inputs.movedim(1, -1)
    flat = _flat(gradient)
    normal = ((values - mean) * inverse).reshape(-1, values.shape[-1])
    sums, products = flat.sum(1), (flat * normal).sum(1)
    for position, found in ((1, products), (2, sums)):
        leaf = parameter_of(node, position)
        if leaf is not None and id(leaf) in rows:
            rows[id(leaf)].copy_(found)
    scale = inverse if weight is None else inverse * weight
    if node._saved_training:
        centred = flat - (sums / len(normal)).unsqueeze(1)
        flat = centred.addcmul_(normal, (products / len(normal)).unsqueeze(1), value=-1).mul_(scale)
    else:
        flat = flat * scale
    return (flat.view(*gradient.shape[:2], *gradient.shape[3:], gradient.shape[2]).movedim(-1, 2),)


def convolution(node: Any, gradient: Tensor, rows: Rows, patches: Patches) -> tuple[Tensor, ...]:
    """One convolution for all tasks at the inputs; the weight gradients by product or one by one."""
    weight, bias = (parameter_of(node, position) for position in (1, 2))
    if weight is not None and id(weight) in rows:
        write_weights(node, gradient, rows[id(weight)], patches)
    if bias is not None and id(bias) in rows:
        rows[id(bias)].copy_(gradient.sum((1, 3, 4)))
    inputs = node._saved_input
    layout = torch.channels_last if inputs.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    tasks, batch = gradient.shape[:2]
    unread = torch.empty((tasks * batch, *inputs.shape[1:]), dtype=inputs.dtype, device=inputs.device)
    unread = unread.contiguous(memory_format=layout)
    found = _backward(node, gradient.flatten(0, 1), unread, [True, False, False])[0]
    return (found.view(tasks, batch, *found.shape[1:]),)


def _backward(node: Any, gradient: Tensor, inputs: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        node._saved_weight,
        None,
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        False,
        node._saved_output_padding,
        node._saved_groups,
        wanted,
    )
    return found


def write_weights(node: Any, gradient: Tensor, rows: Tensor, patches: Patches) -> None:
    """The gradients of a convolution's weight, by product or one by one.

    Args:
        node: The convolution.
        gradient: (T, B, C, H, W) at its outputs.
        rows: (T, *shape of the weight): where they go; their entries in order, or in the order of channels last.
        patches: What is kept between the tasks of a step.
    """
    flat = _flat(gradient)
    if node._saved_groups != 1 or flat.shape[1] > FEW_POSITIONS or rows.dtype != flat.dtype:
        for own, row in zip(gradient, rows, strict=True):
            row.copy_(_backward(node, own, node._saved_input, [False, True, False])[1])
        return
    last = rows.stride(2) == 1  # the entries of a row are in the order of channels last
    if (node, last) not in patches:
        patches[node, last] = _patches(node, last)
    read = patches[node, last]
    places = (rows.permute(0, 1, 3, 4, 2) if last else rows).flatten(2)
    torch.bmm(flat.transpose(1, 2), read.expand(len(flat), *read.shape), out=places)


def _patches(node: Any, channels_last: bool) -> Tensor:
    """(N, entries of a filter): what each output position reads."""
    inputs, size = node._saved_input, node._saved_weight.shape[2:]
    found = functional.unfold(inputs, size, node._saved_dilation, node._saved_padding, node._saved_stride)
    by_entry = found.view(len(found), -1, size.numel(), found.shape[2])
    ordered: Tensor = by_entry.permute((0, 3, 2, 1) if channels_last else (0, 3, 1, 2))
    return ordered.reshape(-1, found.shape[1])


def _flat(gradient: Tensor) -> Tensor:
    """(T, B, C, H, W) -> (T, B H W, C); a view where maps have channels last."""
    return gradient.movedim(2, -1).reshape(len(gradient), -1, gradient.shape[2])


Rule = Callable[[Any, Tensor, Rows, Patches], tuple[Tensor, ...]]
RULES: Mapping[str, Rule] = {
    "ReluBackward0": relu,
    "AddBackward0": add,
    "NativeBatchNormBackward0": batch_norm,
    CONVOLUTION: convolution,
}
PARAMETERS: Mapping[str, tuple[int, ...]] = {"NativeBatchNormBackward0": (1, 2), CONVOLUTION: (1, 2)}
"""At which of its inputs a node reads parameters; all others are activations."""
