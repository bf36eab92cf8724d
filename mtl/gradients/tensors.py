"""Vectors of many tensors."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All values one after the other, (n,), without graph; a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)


def set_gradients(parameters: Iterable[Tensor], gradients: Iterable[Tensor]) -> None:
    """Make `gradients` the `.grad` of `parameters`, each in its parameter's memory layout.

    autograd does that when it accumulates, but not in what `torch.autograd.grad` returns; an optimizer's fused step on
    the CPU reads both as if they had one layout, and is silently wrong where they have not.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        same = gradient.stride() == parameter.stride()
        parameter.grad = gradient if same else torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def views(vector: Tensor, like: Sequence[Tensor], *, channels_last: bool = False) -> list[Tensor]:
    """Consecutive pieces of a vector, viewed in the shapes of `like`; of a matrix those of all its rows.

    Args:
        vector: (..., n).
        like: Tensors with n entries in all.
        channels_last: Let the pieces of convolution weights hold their entries in that order (see `in_other_order`):
            the one in which their gradients come where images have channels last. Copies are then straight.
    """
    rows = vector.shape[:-1]
    pieces = torch.split(vector, [tensor.numel() for tensor in like], dim=-1) if like else ()
    return [
        piece.view(*rows, *tensor.permute(0, 2, 3, 1).shape).movedim(-1, -3)
        if channels_last and in_other_order(tensor)
        else piece.view(*rows, *tensor.shape)
        for piece, tensor in zip(pieces, like, strict=True)
    ]


def copy_rows(pieces: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Write gradients into their pieces of a row; zeros for None."""
    reached = [(piece, gradient) for piece, gradient in zip(pieces, gradients, strict=True) if gradient is not None]
    if reached:
        torch._foreach_copy_([piece for piece, _ in reached], [gradient for _, gradient in reached])
    for piece, gradient in zip(pieces, gradients, strict=True):
        if gradient is None:
            piece.zero_()


def in_other_order(tensor: Tensor) -> bool:
    """Whether `tensor` is the weight of a convolution whose gradient a CPU gives with channels last.

    A function of shape and device alone: sums over rows have to be the same in every run.
    """
    return tensor.dim() == 4 and tensor.device.type == "cpu" and tensor.shape[2:] != (1, 1)
