"""The min-norm point of a simplex: minimise w^T G w over w >= 0, sum w = 1.

Three solvers for one problem: `active_set` is exact and the default; `frank_wolfe` is the paper's (Sener and Koltun
2018, Algorithm 2); `projected_gradient` is what their released code calls. Each returns the duality gap of its answer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """An answer and how good it is.

    Attributes:
        weights: (m,), on the simplex.
        iterations: Iterations used.
        gap: Duality gap relative to the largest squared norm: w^T G w - min_k (G w)_k, 0 at the optimum. The squared
            norm exceeds the minimum by at most twice this.
        converged: Whether the solver stopped by its own test, and not at its limit.
    """

    weights: Tensor
    iterations: int
    gap: float
    converged: bool


def duality_gap(gramian: Tensor, weights: Tensor) -> float:
    """w^T G w - min_k (G w)_k, relative to max_k G_kk (0 for a zero Gramian)."""
    product = gramian @ weights
    scale = gramian.diagonal().max().item()
    return (weights @ product - product.min()).item() / scale if scale > 0 else 0.0


def pair(aa: float, ab: float, bb: float) -> float:
    """Weight of a in the min-norm point of the segment from b to a (Sener and Koltun 2018, eq. 4).

    Args:
        aa: a . a
        ab: a . b
        bb: b . b
    """
    if ab >= aa:
        return 1.0
    if ab >= bb:
        return 0.0
    return (bb - ab) / (aa + bb - 2 * ab)


def active_set(gramian: Tensor, tol: float = 1e-12, max_iter: int = 1000) -> Solution:
    """Wolfe's min-norm point algorithm on the Gramian: exact up to rounding, finitely many iterations.

    Keeps a set of tasks whose affine hull has its min-norm point inside their simplex; adds the task that violates
    optimality most, drops tasks whose weight would turn negative. Rows are scaled to the largest norm first.

    Args:
        gramian: G (m, m), symmetric, positive semi-definite, finite.
        tol: Stop when the relative duality gap is below this.
        max_iter: Limit of additions; when reached, `converged` is False.
    """
    m = len(gramian)
    scale = gramian.diagonal().max()
    if scale <= 0:
        return Solution(torch.full((m,), 1 / m, dtype=gramian.dtype), 0, 0.0, True)
    g = gramian / scale
    start = int(g.diagonal().argmin())
    active = [start]
    weights = torch.zeros(m, dtype=g.dtype)
    weights[start] = 1.0
    value = g[start, start].item()
    iterations, converged = 0, False
    while iterations < max_iter:
        product = g @ weights
        worst = int(product.argmin())
        if (weights @ product - product[worst]).item() <= tol or worst in active:
            converged = True
            break
        iterations += 1
        active.append(worst)
        candidate = _descend(g, active, weights)
        new_value = (candidate @ g @ candidate).item()
        if new_value >= value:  # rounding: no further descent is possible
            converged = True
            break
        weights, value = candidate, new_value
        active = torch.nonzero(weights).flatten().tolist()
    return Solution(weights, iterations, duality_gap(gramian, weights), converged)


def _descend(g: Tensor, active: list[int], weights: Tensor) -> Tensor:
    """Move to the min-norm point of the hull of `active`, dropping tasks on the way until it is inside."""
    current = weights.clone()
    active = list(active)
    while True:
        affine = _affine_minimum(g[active][:, active])
        if (affine > 0).all():
            current = torch.zeros_like(weights)
            current[active] = affine
            return current / current.sum()
        here = current[active]
        falling = affine <= 0
        steps = torch.where(falling, here / (here - affine).clamp_min(1e-300), torch.inf)
        step = steps.min().clamp(0, 1)
        moved = (1 - step) * here + step * affine
        moved[int(steps.argmin())] = 0.0
        moved = moved.clamp_min(0)
        current = torch.zeros_like(weights)
        current[active] = moved
        active = [k for k, weight in zip(active, moved.tolist(), strict=True) if weight > 0]
        if len(active) == 1:
            current = torch.zeros_like(weights)
            current[active] = 1.0
            return current


def _affine_minimum(g: Tensor) -> Tensor:
    """Argmin v^T G v with sum v = 1, any sign: G v = c 1. Least squares where G is singular."""
    k = len(g)
    system = torch.zeros((k + 1, k + 1), dtype=g.dtype)
    system[:k, :k] = g
    system[:k, k] = 1.0
    system[k, :k] = 1.0
    right = torch.zeros(k + 1, dtype=g.dtype)
    right[k] = 1.0
    solution: Tensor
    solution, info = torch.linalg.solve_ex(system, right)
    if info != 0 or not torch.isfinite(solution).all() or (system @ solution - right).abs().max() > 1e-9:
        solution = torch.linalg.lstsq(system, right, driver="gelsd").solution
    return solution[:k]


def frank_wolfe(gramian: Tensor, tol: float = 1e-12, max_iter: int = 250, init: str = "uniform") -> Solution:
    """Frank-Wolfe with exact line search (Sener and Koltun 2018, Algorithm 2).

    Args:
        gramian: G (m, m).
        tol: Stop when the relative duality gap is below this. The paper gives neither tolerance nor limit.
        max_iter: Limit; when reached, `converged` is False.
        init: `uniform` (paper) or `best_pair`.
    """
    m = len(gramian)
    weights = torch.full((m,), 1 / m, dtype=gramian.dtype) if init == "uniform" else best_pair(gramian)
    scale = max(gramian.diagonal().max().item(), 0.0)
    for iteration in range(max_iter):
        product = gramian @ weights
        worst = int(product.argmin())
        square = (weights @ product).item()
        if square - product[worst].item() <= tol * scale:
            return Solution(weights, iteration, duality_gap(gramian, weights), True)
        keep = pair(square, product[worst].item(), gramian[worst, worst].item())
        weights = keep * weights
        weights[worst] += 1 - keep
    return Solution(weights, max_iter, duality_gap(gramian, weights), False)


def projected_gradient(
    gramian: Tensor, tol: float = 1e-5, max_iter: int = 250, init: str = "best_pair", endpoint_clip: float = 0.0
) -> Solution:
    """Projected gradient descent as in the released code of Sener and Koltun 2018 (`min_norm_solvers.py`).

    Differs from it in that the limit acts, the last iterate is returned, and m = 1 and large norms are handled.

    Args:
        gramian: G (m, m).
        tol: Stop when the weights change by less than this in sum; 1e-5 in the released code.
        max_iter: Limit; 250 in the released code, where it has no effect.
        init: `best_pair` (released code) or `uniform`.
        endpoint_clip: Line-search results 0 and 1 become this and one minus this; 0.001 in the released code.
    """
    m = len(gramian)
    weights = best_pair(gramian, endpoint_clip) if init == "best_pair" else torch.full((m,), 1 / m).to(gramian)
    if m <= 2:
        return Solution(weights, 0, duality_gap(gramian, weights), True)
    for iteration in range(max_iter):
        gradient = -(gramian @ weights)
        proposal = _next_point(weights, gradient - gradient.mean())
        products = torch.stack([weights, proposal]) @ gramian
        keep = pair((products[0] @ weights).item(), (products[0] @ proposal).item(), (products[1] @ proposal).item())
        keep = min(max(keep, endpoint_clip), 1 - endpoint_clip)
        new = keep * weights + (1 - keep) * proposal
        change = (new - weights).abs().sum().item()
        weights = new
        if change < tol:
            return Solution(weights, iteration + 1, duality_gap(gramian, weights), True)
    return Solution(weights, max_iter, duality_gap(gramian, weights), False)


def best_pair(gramian: Tensor, endpoint_clip: float = 0.0) -> Tensor:
    """The best min-norm point over all pairs of tasks, as weights (m,)."""
    m = len(gramian)
    weights = torch.zeros(m, dtype=gramian.dtype)
    if m == 1:
        return torch.ones(1, dtype=gramian.dtype)
    rows, columns = torch.triu_indices(m, m, offset=1)
    aa, bb, ab = gramian.diagonal()[rows], gramian.diagonal()[columns], gramian[rows, columns]
    keep = torch.where(ab >= aa, 1.0, torch.where(ab >= bb, 0.0, (bb - ab) / (aa + bb - 2 * ab)))
    keep = keep.clamp(endpoint_clip, 1 - endpoint_clip)
    best = int((keep**2 * aa + 2 * keep * (1 - keep) * ab + (1 - keep) ** 2 * bb).argmin())
    weights[rows[best]] = keep[best]
    weights[columns[best]] = 1 - keep[best]
    return weights


def _next_point(weights: Tensor, direction: Tensor) -> Tensor:
    """The first point along `direction` at which a weight reaches 0 or 1, projected onto the simplex."""
    to_zero = -weights / direction
    to_one = (1 - weights) / direction
    steps = torch.cat([to_zero[direction < 0], to_one[direction > 0]])
    steps = steps[steps > 1e-7]
    step = steps.min() if len(steps) else torch.ones((), dtype=weights.dtype)
    return project_to_simplex(weights + step * direction)


def project_to_simplex(point: Tensor) -> Tensor:
    """Euclidean projection onto {w >= 0, sum w = 1}."""
    ordered = point.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, len(point) + 1, dtype=point.dtype)
    last = int((ordered > excess).nonzero().max())
    return (point - excess[last]).clamp_min(0)
