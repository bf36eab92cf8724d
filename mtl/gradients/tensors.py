"""Vectors of many tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All values one after the other, (n,), without graph; a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a vector, viewed in the shapes of `like`."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like]) if like else ()
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
