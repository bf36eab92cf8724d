"""The min-norm point of a simplex: minimise w^T G w over w >= 0, sum w = 1.

Three solvers for one problem: `active_set` is exact and the default; `frank_wolfe` is the paper's (Sener and Koltun
2018, Algorithm 2); `projected_gradient` is what their released code calls. Each returns the duality gap of its answer.

What a Gramian determines: an entry G_kj is known to about eps |g_k| |g_j|, whatever the scale of the rows. So with
s = sum_k w_k |g_k|, the squared norm w^T G w is known to m eps s^2 and (G w)_k to m eps |g_k| s. Rows of norm 1e-6 next
to rows of 1e6 cost no accuracy; nearly dependent rows do, because then w^T G w is far below s^2. Differences within
these bounds are taken for 0, with eps of float64, or of float32 where the Gramian is not positive semi-definite to
float64 accuracy (products of float32 gradients).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.aggregation.solvers.simplex import project_to_simplex

EPS = 4 * torch.finfo(torch.float64).eps
EPS32 = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Solution:
    """An answer and how good it is.

    Attributes:
        weights: (m,), on the simplex.
        iterations: Iterations used.
        gap: Relative duality gap (w^T G w - min_k (G w)_k) / w^T G w, 0 at the optimum; what rounding of the Gramian
            explains counts as 0. The squared norm exceeds the minimum by at most twice this fraction of itself.
        converged: Whether the solver met its own stopping test, and not its limit.
    """

    weights: Tensor
    iterations: int
    gap: float
    converged: bool


def duality_gap(gramian: Tensor, weights: Tensor, eps: float = EPS) -> float:
    """(w^T G w - min_k (G w)_k) / w^T G w beyond rounding, as `Solution.gap`."""
    norms = gramian.diagonal().clamp_min(0).sqrt()
    product = gramian @ weights
    square, length = (weights @ product).item(), (weights @ norms).item()
    unit = len(gramian) * eps * length
    if square <= unit * length:
        return 0.0
    return max((square - product - unit * (length + norms)).max().item() / square, 0.0)


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

    Begins with one task, or with all that keep a positive weight together. Keeps a set of tasks whose affine hull has
    its min-norm point inside their simplex; adds the task that violates optimality most, drops tasks whose weight would
    turn negative. Works in the variables u_k = w_k |g_k| / c, where c is the smallest norm: minimise u^T C u over
    u >= 0, a^T u = 1, with the cosines C and a_k = c / |g_k|. This is the same problem, free of the rows' scale. The
    diagonal of C is raised by what the Gramian leaves open, so equal and dependent rows need no special case. Zero rows
    share all the weight.

    Args:
        gramian: G (m, m), symmetric, positive semi-definite, finite.
        tol: Stop when the relative duality gap is below this.
        max_iter: Limit of additions. `converged` says whether the answer's gap is within `tol`.
    """
    if len(gramian) == 2:
        return _two_tasks(gramian)
    norms = gramian.diagonal().clamp_min(0).sqrt()
    zero = norms == 0
    if zero.any():
        return Solution(zero.to(gramian.dtype) / zero.sum(), 0, 0.0, True)
    cosines, a = gramian / norms / norms[:, None], norms.min() / norms
    iterations = 0
    for eps in (EPS, EPS32):
        u, added = _wolfe(cosines, a, tol, max_iter - iterations, eps)
        iterations += added
        weights = u * a / (u @ a)
        gap = duality_gap(gramian, weights, eps)
        if gap <= tol or iterations >= max_iter:
            break
    return Solution(weights, iterations, gap, gap <= tol)


def _two_tasks(gramian: Tensor) -> Solution:
    """The closed form, in Python numbers: for two tasks the overhead of tensors is all there is to save."""
    (aa, ab), (_, bb) = gramian.tolist()
    if aa <= 0 and bb <= 0:
        return Solution(torch.full((2,), 0.5, dtype=gramian.dtype), 0, 0.0, True)
    first = pair(aa, ab, bb)
    second = pair(bb, ab, aa) if 0 < first < 1 else 1 - first  # not 1 - first: it may be far below 1e-16
    products = (first * aa + second * ab, first * ab + second * bb)
    square = first * products[0] + second * products[1]
    length = first * math.sqrt(max(aa, 0.0)) + second * math.sqrt(max(bb, 0.0))
    unit = 2 * EPS * length
    excess = square - min(products) - unit * (length + math.sqrt(max(aa, bb, 0.0)))
    gap = max(excess / square, 0.0) if square > unit * length else 0.0
    return Solution(torch.tensor([first, second], dtype=gramian.dtype), 0, gap, True)


def _wolfe(cosines: Tensor, a: Tensor, tol: float, max_iter: int, eps: float) -> tuple[Tensor, int]:
    """Minimise u^T C u over u >= 0, a^T u = 1 for C known to `eps`; return u and the number of additions."""
    m = len(a)
    cosines = cosines + m * eps / 4 * torch.eye(m, dtype=a.dtype)
    u = _start(cosines, a)
    best, lowest, least, iterations = u, float("inf"), float("inf"), 0
    while True:
        product = cosines @ u
        square, total = (u @ product).item(), u.sum().item()
        unit = m * eps / 2 * total
        below = ((1 - tol) * square - unit * total) * a - product - unit  # as in `duality_gap`, over |g_k|
        worst = int(below.argmax())
        violation = below[worst].item()
        if square >= lowest and (square > lowest + unit * total or violation >= least):
            break  # rounding: neither the norm nor, at the same norm, the violation falls any further
        best, lowest, least = u, min(square, lowest), violation
        if square <= unit * total or violation <= 0 or iterations == max_iter:
            break
        iterations += 1
        u = _descend(cosines, a, u, worst)
    return best, iterations


def _start(cosines: Tensor, a: Tensor) -> Tensor:
    """The task of smallest norm if that is the answer, else the min-norm point of the hull of many, inside it.

    From all tasks, those whose weight is not positive are dropped together: most additions are saved where most count.
    Where rounding leaves nothing to go by, the task of smallest norm too.
    """
    first = int(a.argmax())
    alone = torch.zeros_like(a)
    alone[first] = 1.0
    if (cosines[first] >= a).all():
        return alone
    active = torch.arange(len(a))
    while len(active):
        factor, info = torch.linalg.cholesky_ex(cosines[active[:, None], active])
        if info.item():  # not positive definite
            break
        own = a[active]
        affine = torch.cholesky_solve(own[:, None], factor)[:, 0]
        keep = affine > 0
        if keep.all():
            return torch.zeros_like(a).index_copy_(0, active, affine / (own @ affine))
        active = active[keep]
    return alone


def _descend(cosines: Tensor, a: Tensor, u: Tensor, new: int) -> Tensor:
    """Move to the min-norm point of the hull of `new` and the tasks with u > 0, dropping tasks until it is inside."""
    keep = u > 0
    keep[new] = True
    active = keep.nonzero().flatten()
    here = u[active]
    while True:
        own = a[active]
        affine, _ = torch.linalg.solve_ex(cosines[active[:, None], active], own)
        affine = affine / (own @ affine)
        if not torch.isfinite(affine.sum()):  # not positive semi-definite: no descent, the caller stops
            return u
        if affine.min() > 0 or len(active) == 1:
            return torch.zeros_like(u).index_copy_(0, active, affine)
        steps = torch.where(affine <= 0, here / (here - affine), torch.inf)
        first = steps.argmin()
        here = (here + steps[first] * (affine - here)).clamp_min(0)
        here[first] = 0.0
        keep = here > 0
        active, here = active[keep], here[keep]


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
    for iteration in range(max_iter):
        gap = duality_gap(gramian, weights)
        if gap <= tol:
            return Solution(weights, iteration, gap, True)
        product = gramian @ weights
        worst = int(product.argmin())
        square = (weights @ product).item()
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
    gramian = gramian / gramian.diagonal().max().clamp_min(torch.finfo(gramian.dtype).tiny)  # for `_next_point`'s 1e-7
    pairs = init == "best_pair" or m <= 2  # for two tasks the best pair is the answer
    weights = best_pair(gramian, endpoint_clip) if pairs else torch.full((m,), 1 / m, dtype=gramian.dtype)
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
