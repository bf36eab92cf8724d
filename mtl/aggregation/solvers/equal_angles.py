"""Vectors with the same inner product with every unit gradient: C v = 1 with the cosines C."""

import torch
from torch import Tensor

from mtl.aggregation.solvers.min_norm import EPS, EPS32


def resolution(values: Tensor) -> float:
    """What an eigenvalue has to exceed, relative to the largest, to be told from 0: m eps.

    eps is that of float32 where the smallest is below 0 by more than float64 explains: products of float32 gradients.

    Args:
        values: Eigenvalues (m,), ascending.
    """
    m = len(values)
    return m * (EPS32 if values[0] < -m * EPS * values[-1] else EPS)


def equal_angles(cosines: Tensor) -> tuple[Tensor, int]:
    """Minimum-norm least-squares solution v (m,) of C v = 1, and the rank of C.

    Eigenvalues below `resolution` times the largest count as 0.
    """
    values, vectors = torch.linalg.eigh(cosines)
    kept = values > resolution(values) * values[-1]
    vectors = vectors[:, kept]
    return vectors @ (vectors.sum(0) / values[kept]), int(kept.sum())


def equal_projections(cosines: Tensor, a: Tensor) -> Tensor:
    """The v (m,) with a . v = 1 whose products C v differ least from each other (least squares, minimum norm).

    Exact equality wherever it is possible; defined also where C v = 1 has no solution or a . v = 0 for it.
    """
    start = a / (a @ a)
    basis = torch.linalg.qr(a[:, None], mode="complete").Q[:, 1:]
    centered = cosines - cosines.mean(0)
    inverse = torch.linalg.pinv(centered @ basis, rtol=resolution(torch.linalg.eigvalsh(cosines)))
    v: Tensor = start - basis @ (inverse @ (centered @ start))
    return v / (a @ v)  # 1 but for rounding, which counts where v is large
