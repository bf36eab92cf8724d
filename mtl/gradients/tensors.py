"""Vectors of many tensors, and their inner products."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cross_gramian(first: Tensor, second: Tensor) -> Tensor:
    """R S^T as float64 on the CPU; (m, k) from (m, n) and (k, n). Recomputed in float64 if the product overflows."""
    product = (first @ second.T).to("cpu", torch.float64)
    if not math.isfinite(product.sum().item()) and torch.isfinite(first).all() and torch.isfinite(second).all():
        product = (first.to(torch.float64) @ second.to(torch.float64).T).cpu()
    return product


def gramian(rows: Tensor) -> Tensor:
    """R R^T as float64 on the CPU; (m, m) from (m, n)."""
    return cross_gramian(rows, rows)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All values one after the other, (n,), without graph; a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a vector, viewed in the shapes of `like`."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like]) if like else ()
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
