"""Vectors of many tensors, and their inner products."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def gramian(rows: Tensor) -> Tensor:
    """R R^T as float64 on the CPU; (m, m) from (m, n). Recomputed in float64 if the product overflows."""
    product = (rows @ rows.T).to("cpu", torch.float64)
    if not math.isfinite(product.sum().item()) and torch.isfinite(rows).all():
        wide = rows.to(torch.float64)
        product = (wide @ wide.T).cpu()
    return product


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All values one after the other, (n,), without graph; a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a vector, viewed in the shapes of `like`."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like]) if like else ()
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
