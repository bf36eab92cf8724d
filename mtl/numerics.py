"""Inner products that keep their digits."""

import math

import torch
from torch import Tensor

BLOCK = 4096
"""Columns that are added up in the precision of training; blocks are added up in float64."""
SMALL = 1 << 16
"""So many numbers, and fewer, are multiplied in float64: one call costs less than the blocks' ten."""


def gramian(rows: Tensor) -> Tensor:
    """R R^T as float64 on the CPU, (m, m) from (m, n); see `inner_products`."""
    return inner_products(rows, rows)


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """L R^T as float64 on the CPU, (m, m) from (m, n) twice; both contiguous along n.

    One matrix product over millions of float32 columns loses digits: for 3 rows of 11 million its entries were wrong by
    1e-3, of blocks of 4096 columns added up in float64 by 2e-7, in less time (docs/decisions/gramian-precision.md).
    Recomputed in float64 if a product overflows.
    """
    product = _by_blocks(left, right)
    if not math.isfinite(product.sum().item()) and torch.isfinite(left).all() and torch.isfinite(right).all():
        product = _by_blocks(left.to(torch.float64), right.to(torch.float64))
    return product.cpu()


def _by_blocks(left: Tensor, right: Tensor) -> Tensor:
    m, n = left.shape
    if left.numel() <= SMALL:
        one = left.to(torch.float64)
        return one @ (one if right is left else right.to(torch.float64)).T
    whole = n - n % BLOCK
    total = (left[:, whole:] @ right[:, whole:].T).to(torch.float64)
    if whole:
        one, other = (side[:, :whole].view(m, -1, BLOCK).transpose(0, 1) for side in (left, right))
        total += torch.bmm(one, other.transpose(1, 2)).sum(0, dtype=torch.float64)
    return total
