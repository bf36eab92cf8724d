"""Projection onto the dual cone of the task gradients: the nearest vector that conflicts with none of them.

For x = J^T u: minimise |J^T (u + y)|^2 over y >= 0. The optimality conditions (KKT) are y >= 0, s = G (u + y) >= 0 and
y_k s_k = 0: the answer d = J^T (u + y) has inner product s_k >= 0 with every task gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.aggregation.solvers import two_tasks
from mtl.aggregation.solvers.min_norm import EPS, EPS32

PATIENCE = 3
"""Exchanges of whole sets without progress before one variable at a time is exchanged, as is certain to end."""


@dataclass(frozen=True)
class Projection:
    """An answer and how good it is.

    Attributes:
        weights: V = U + Y (p, m), one row per projected vector.
        iterations: Exchanges made; of two tasks, the most that any projection added to.
        residual: Largest violation of the KKT conditions beyond rounding, relative to the vectors' lengths.
        converged: Whether `residual` is within the tolerance.
    """

    weights: Tensor
    iterations: int
    residual: float
    converged: bool


def project_to_dual_cone(gramian: Tensor, vectors: Tensor, tol: float = 1e-9, max_iter: int = 1000) -> Projection:
    """Project p vectors at once, by block principal pivoting.

    Works in the variables v_k = y_k |g_k| with the cosines, free of the rows' scale. Splits the tasks of each vector
    into those with v_k > 0 and those with s_k > 0, solves the linear system this leaves, and exchanges the tasks with
    the wrong sign: all of them while that helps, else the last one only (Murty's rule, which is finite for a positive
    definite matrix). The diagonal is raised by what the Gramian leaves open. Zero rows get y_k = 0.

    Args:
        gramian: G (m, m), symmetric, positive semi-definite, finite.
        vectors: U (p, m), coefficients of the vectors J^T u.
        tol: Limit of `residual`.
        max_iter: Limit of exchanges.
    """
    if len(gramian) == 2:
        found = two_tasks.project(gramian, vectors.tolist())
        if found is not None and found[2] <= tol:
            weights, exchanges, residual = found
            return Projection(torch.tensor(weights, dtype=gramian.dtype).view(-1, 2), exchanges, residual, True)
    return _any_number(gramian, vectors, tol, max_iter)


def _any_number(gramian: Tensor, vectors: Tensor, tol: float, max_iter: int) -> Projection:
    norms = gramian.diagonal().clamp_min(0).sqrt()
    live = norms > 0
    if not live.any() or not len(vectors):
        return Projection(vectors.clone(), 0, 0.0, True)
    if not live.all():
        inner = _any_number(gramian[live][:, live], vectors[:, live], tol, max_iter)
        weights = vectors.clone()
        weights[:, live] = inner.weights
        return Projection(weights, inner.iterations, inner.residual, inner.converged)
    cosines = gramian / norms / norms[:, None]
    scaled = vectors * norms
    lengths = scaled.abs().sum(1, keepdim=True)
    scaled = scaled / torch.where(lengths > 0, lengths, 1.0)
    iterations, residual = 0, float("inf")
    answer = scaled
    for eps in (EPS, EPS32):
        added, used = _pivot(cosines, scaled @ cosines, max_iter - iterations, eps)
        iterations += used
        found = kkt_residual(cosines, scaled, added, eps)
        if found < residual:
            residual, answer = found, scaled + added.clamp_min(0)
        if residual <= tol or iterations >= max_iter:
            break
    return Projection(answer * lengths / norms, iterations, residual, residual <= tol)


def kkt_residual(cosines: Tensor, scaled: Tensor, added: Tensor, eps: float = EPS) -> float:
    """Violation of v >= 0, s >= 0, v s = 0 beyond rounding, for vectors of sum |u_k| |g_k| = 1."""
    total = 1 + added.abs().sum(1, keepdim=True)
    unit = len(cosines) * eps * total
    slack = (scaled + added) @ cosines
    worst = torch.stack(
        [(-added / total).max(), (-slack - unit).max(), ((added / total * slack).abs() - unit).max()]
    ).max()
    return max(worst.item(), 0.0) if torch.isfinite(worst) else float("inf")


def _pivot(cosines: Tensor, right: Tensor, max_iter: int, eps: float) -> tuple[Tensor, int]:
    """Solve v >= 0, s = C v + right >= 0, v s = 0 for each row of `right`; return V and the number of exchanges."""
    m = len(cosines)
    identity = torch.eye(m, dtype=cosines.dtype)
    cosines = cosines + m * eps / 4 * identity
    chosen = torch.zeros_like(right, dtype=torch.bool)
    values = torch.zeros_like(right)
    fewest = torch.full((len(right),), m + 1)
    patience = torch.full((len(right),), PATIENCE)
    open_rows = torch.arange(len(right))
    iterations = 0
    while True:
        picked, b = chosen[open_rows], right[open_rows]
        v = torch.zeros_like(b)
        if picked.any():
            system = torch.where(picked[:, :, None] & picked[:, None, :], cosines, identity)
            v, _ = torch.linalg.solve_ex(system, torch.where(picked, -b, 0.0))
        slack = v @ cosines + b
        unit = m * eps * (1 + v.abs().sum(1, keepdim=True))
        wrong = torch.where(picked, v < -unit, slack < -unit)
        values[open_rows] = v
        count = wrong.sum(1)
        keep = (count > 0) & torch.isfinite(v).all(1)
        if not keep.any() or iterations >= max_iter:
            return values, iterations
        iterations += 1
        open_rows, wrong, count = open_rows[keep], wrong[keep], count[keep]
        better = count < fewest[open_rows]
        fewest[open_rows] = torch.where(better, count, fewest[open_rows])
        left = torch.where(better, PATIENCE, patience[open_rows] - 1)
        patience[open_rows] = left
        last = torch.zeros_like(wrong)
        last[torch.arange(len(wrong)), m - 1 - wrong.flip(1).to(torch.int8).argmax(1)] = True
        chosen[open_rows] ^= torch.where((left >= 0)[:, None], wrong, last)
