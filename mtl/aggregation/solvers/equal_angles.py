"""Vectors with the same inner product with every unit gradient: C v = 1 with the cosines C."""

import torch
from torch import Tensor

from mtl.aggregation.solvers.min_norm import EPS


def equal_angles(cosines: Tensor) -> tuple[Tensor, int]:
    """Minimum-norm least-squares solution v (m,) of C v = 1, and the rank of C.

    Eigenvalues below m eps times the largest count as 0.
    """
    values, vectors = torch.linalg.eigh(cosines)
    kept = values > len(values) * EPS * values[-1]
    vectors = vectors[:, kept]
    return vectors @ (vectors.sum(0) / values[kept]), int(kept.sum())


def equal_projections(cosines: Tensor, a: Tensor) -> Tensor:
    """The v (m,) with a . v = 1 whose products C v differ least from each other (least squares, minimum norm).

    Exact equality wherever it is possible; defined also where C v = 1 has no solution or a . v = 0 for it.
    """
    m = len(a)
    start = a / (a @ a)
    basis = torch.linalg.qr(a[:, None], mode="complete").Q[:, 1:]
    centered = cosines - cosines.mean(0)
    inverse = torch.linalg.pinv(centered @ basis, rtol=m * EPS)
    v: Tensor = start - basis @ (inverse @ (centered @ start))
    return v
