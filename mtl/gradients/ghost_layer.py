"""One layer's part of a Gramian, from its inputs and the task gradients at its outputs."""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.nn.grad import conv2d_weight
from torch.nn.utils.parametrize import is_parametrized

from mtl.gradients.cost import cost_of_products, cost_of_rows

Sized = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""Layers whose cost is known, with rows and without."""


@dataclass(frozen=True)
class Capture:
    """What one forward pass of a layer leaves: its input, and where its output stands in the graph.

    The place is taken when the output is made: an activation that works in place changes the tensor later, not the
    place. A later change of the input is told by its version. No input: the layer was called with a keyword.
    """

    inputs: Tensor | None
    version: int
    edge: GradientEdge
    output_shape: torch.Size

    @property
    def is_whole(self) -> bool:
        """Whether the input is known and still what the layer read."""
        return self.inputs is not None and self.inputs._version == self.version


def capture(inputs: tuple[Tensor, ...], output: Tensor) -> Capture:
    """Keep what a ghost layer needs."""
    known = inputs[0].detach() if inputs else None  # shares storage and version
    return Capture(known, 0 if known is None else known._version, get_gradient_edge(output), output.shape)


def can_be_ghost(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether `module` computes y = W x + b as torch does, with weights of its own."""
    if isinstance(module, nn.Linear):
        plain = type(module).forward is nn.Linear.forward
    elif isinstance(module, nn.Conv2d):
        plain = type(module).forward is nn.Conv2d.forward and module.padding_mode == "zeros"
        plain = plain and _padding(module) is not None
    else:
        return False
    plain = plain and "forward" not in vars(module) and not is_parametrized(module)
    return plain and all(p.requires_grad for p in module.parameters()) and "weight" in module._parameters


def _padding(conv: nn.Conv2d) -> tuple[int, int] | None:
    """Zeros on either side of rows and columns; None if one side gets more than the other."""
    if not isinstance(conv.padding, str):
        return conv.padding[0], conv.padding[1]
    if conv.padding == "valid":
        return 0, 0
    both = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return None if any(total % 2 for total in both) else (both[0] // 2, both[1] // 2)


class Sizes(NamedTuple):
    """N rows of inputs of length d, c outputs, per group of channels.

    For a linear layer every vector is a row, for a convolution every output position of every sample.
    """

    groups: int
    n: int
    d: int
    c: int

    @classmethod
    def of(cls, module: Sized, output_shape: torch.Size) -> "Sizes":
        """By the layer's own numbers: weights may be computed from others."""
        if isinstance(module, nn.Linear):
            return cls(1, output_shape.numel() // module.out_features, module.in_features, module.out_features)
        d = module.in_channels // module.groups * math.prod(module.kernel_size)
        n = output_shape.numel() // module.out_channels
        return cls(module.groups, n, d, module.out_channels // module.groups)

    def is_cheaper(self, num_tasks: int) -> bool:
        """Whether m tasks cost clearly less without their rows; see `mtl.gradients.cost`."""
        _, n, d, c = self
        return cost_of_products(num_tasks, n, d, c) < 0.9 * cost_of_rows(num_tasks, n, d, c)


class GhostLayer:
    """S = A A^T + 1 1^T and D_k of one layer in one step.

    Args:
        module: The layer.
        found: Its one forward pass.
        num_tasks: m.
    """

    def __init__(self, module: nn.Linear | nn.Conv2d, found: Capture, num_tasks: int) -> None:
        self.module = module
        self.capture = found
        self.num_tasks = num_tasks
        self.groups, self.n, self.d, self.c = Sizes.of(module, found.output_shape)
        self._gradients: Tensor | None = None

    def put(self, k: int, gradient: Tensor | None) -> None:
        """Take task k's gradient at the outputs; None for a task that does not depend on them."""
        if self._gradients is None:
            like = self.module.weight
            shape = (self.groups, self.n, self.num_tasks, self.c)
            self._gradients = torch.zeros(shape, dtype=like.dtype, device=like.device)
        if gradient is None:
            return
        if isinstance(self.module, nn.Conv2d):
            gradient = gradient.movedim(-3, -1)  # channels last: a view where the layer works in that layout
        self._gradients[:, :, k].copy_(gradient.reshape(self.n, self.groups, self.c).movedim(1, 0))

    def put_all(self, first: int, gradients: Tensor) -> None:
        """Take those of several tasks, (T, *outputs), from number `first` on."""
        for k, gradient in enumerate(gradients, first):
            self.put(k, gradient)

    def gramian(self) -> Tensor:
        """(m, m), float64 on the CPU: sum over groups of <D_k, S D_l>, added up over the rows in float64."""
        total = torch.zeros(self.num_tasks, self.num_tasks, dtype=torch.float64)
        for gradients, inputs in zip(self._known, self._inputs(), strict=True):
            similarity = inputs @ inputs.T
            if self.module.bias is not None:
                similarity += 1
            products = (similarity @ gradients.view(self.n, -1)).view_as(gradients)
            total += torch.bmm(gradients, products.transpose(1, 2)).sum(0, dtype=torch.float64).cpu()
        return total

    def combined(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gradients of weight and bias (None without one) of sum_k weights[k] L_k. `weights`: (m,)."""
        summed = torch.einsum("gnmc,m->gnc", self._known, weights)
        bias = None if self.module.bias is None else summed.sum(1).reshape(-1)
        inputs = self._read.to(summed.dtype)
        if isinstance(self.module, nn.Linear):
            return summed[0].T @ inputs.reshape(self.n, self.d), bias
        conv, shape = self.module, self.capture.output_shape
        maps = summed.movedim(0, 1).reshape(*shape[:-3], *shape[-2:], shape[-3]).movedim(-1, -3)
        batched = (inputs, maps) if inputs.dim() == 4 else (inputs[None], maps[None])
        weight: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            batched[0], conv.weight.shape, batched[1], conv.stride, _padding(conv), conv.dilation, conv.groups
        )
        return weight, bias

    @property
    def _known(self) -> Tensor:
        assert self._gradients is not None, "put() first"
        return self._gradients

    @property
    def _read(self) -> Tensor:
        assert self.capture.inputs is not None, "chosen without inputs"
        return self.capture.inputs

    def _inputs(self) -> Tensor:
        """A (groups, N, d), in the precision of the weights."""
        values = self._read.to(self.module.weight.dtype)
        if isinstance(self.module, nn.Linear):
            return values.reshape(1, self.n, self.d)
        conv, padding = self.module, _padding(self.module)
        assert padding is not None
        batched = values if values.dim() == 4 else values[None]
        patches = functional.unfold(batched, conv.kernel_size, conv.dilation, padding, conv.stride)
        batch, _, positions = patches.shape
        return patches.view(batch, self.groups, self.d, positions).permute(1, 0, 3, 2).reshape(self.groups, -1, self.d)
