"""Euclidean projection onto the probability simplex."""

import torch
from torch import Tensor


def project_to_simplex(point: Tensor) -> Tensor:
    r"""The point of :math:`\{w \ge 0,\ \sum_k w_k = 1\}` nearest to `point` (m,), m >= 1, finite; exact, by sorting.

    By the KKT conditions the projection is :math:`\max(y - \theta, 0)` with one threshold :math:`\theta`. In descending
    order, the entries that stay positive are the longest head with :math:`y_j > (\sum_{i \le j} y_i - 1) / j` (Held,
    Wolfe and Crowder 1974). The largest entry is subtracted first, which changes nothing but the rounding.
    """
    shifted = point - point.max()
    ordered = shifted.sort(descending=True).values
    thresholds = (ordered.cumsum(0) - 1) / torch.arange(1, len(point) + 1, dtype=point.dtype, device=point.device)
    kept = int((ordered > thresholds).sum())
    return (shifted - thresholds[kept - 1]).clamp_min(0)
