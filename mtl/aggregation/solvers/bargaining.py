"""Fair weights: solve (G a)_k = a_k^-p with a > 0; p = 1 is the Nash bargaining solution.

The solution is the only stationary point of the strictly convex f(a) = a^T G a / 2 - sum_k phi(a_k), where phi(a) is
log a for p = 1 and a^(1-p) / (1-p) otherwise. It exists unless 0 is in the hull of the task gradients.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.aggregation.solvers import two_tasks
from mtl.aggregation.solvers.min_norm import EPS, EPS32, active_set

PATIENCE = 30
"""Steps without a smaller residual after which rounding is taken for reached."""


@dataclass(frozen=True)
class Bargain:
    """An answer and how good it is.

    Attributes:
        weights: a (m,) >= 0.
        iterations: Newton steps.
        residual: max_k |(G a)_k a_k^p - 1| over the tasks that take part, beyond what rounding of the Gramian explains
            (m eps a_k^p |g_k| sum_j a_j |g_j|, with eps of float64 or float32 as in `min_norm`).
        converged: Whether `residual` is within the tolerance; True at a stationary point, where there is no solution.
        stationary: 0 is in the hull of the gradients up to rounding. The weights then sum to 1 and J^T a is 0.
        left_out: Tasks with a zero gradient. They get weight 0.
    """

    weights: Tensor
    iterations: int
    residual: float
    converged: bool
    stationary: bool
    left_out: int


def bargain(gramian: Tensor, power: float = 1.0, tol: float = 1e-6, max_iter: int = 200) -> Bargain:
    """Newton's method with exact line search on f, in variables free of the rows' scale.

    With the cosines C and v_k = a_k |g_k|: C v = b v^-p, b_k = |g_k|^(p - 1). Each step is preceded by the best common
    factor for v. Ends where rounding lets the residual fall no further; `converged` compares with `tol`.

    Args:
        gramian: G (m, m), symmetric, positive semi-definite, finite.
        power: p > 0.
        tol: Limit of `residual`.
        max_iter: Limit of Newton steps.
    """
    if len(gramian) == 2 and power == 1:
        found = two_tasks.bargain(gramian)
        if found is not None and found[1] <= tol:
            return Bargain(torch.tensor(found[0], dtype=gramian.dtype), 0, found[1], True, False, 0)
    return _any_number(gramian, power, tol, max_iter)


def _any_number(gramian: Tensor, power: float, tol: float, max_iter: int) -> Bargain:
    norms = gramian.diagonal().clamp_min(0).sqrt()
    live = norms > 0
    left_out = int((~live).sum())
    weights = torch.zeros_like(norms)
    if not live.any():
        return Bargain(weights, 0, 0.0, True, False, left_out)
    size = norms[live]
    cosines = gramian[live][:, live] / size / size[:, None]
    unit = size.log().mean().exp().item()
    b = (size / unit) ** (power - 1)  # C v' = b v'^-p with v = factor v'
    factor = unit ** ((power - 1) / (power + 1))
    indefinite = torch.linalg.cholesky_ex(_raised(cosines, EPS)).info.item()
    eps = EPS32 if indefinite else EPS  # products of float32 gradients
    v, iterations = _newton(cosines, b, power, max_iter, eps)
    shares = v / v.sum()
    if _residual(cosines @ v, b, power, v, 0.0).max() > tol:
        shares = active_set(
            cosines
        ).weights  # is there a solution at all? Newton's v may still be on its way to infinity
    if shares @ cosines @ shares <= len(v) * eps:
        weights[live] = shares / size / (shares / size).sum()
        return Bargain(weights, iterations, 0.0, True, True, left_out)
    residual = _residual(cosines @ v, b, power, v, eps).max().item()
    weights[live] = v * factor / size
    return Bargain(weights, iterations, residual, residual <= tol, False, left_out)


def _raised(cosines: Tensor, eps: float) -> Tensor:
    """The diagonal raised by what the Gramian leaves open."""
    return cosines + len(cosines) * eps / 4 * torch.eye(len(cosines), dtype=cosines.dtype)


def _residual(product: Tensor, b: Tensor, p: float, v: Tensor, eps: float) -> Tensor:
    """|(C v)_k v_k^p / b_k - 1| beyond rounding, given C v."""
    relative = v**p / b
    return ((product * relative - 1).abs() - len(v) * eps * v.sum() * relative).clamp_min(0)


def _newton(cosines: Tensor, b: Tensor, p: float, max_iter: int, eps: float) -> tuple[Tensor, int]:
    """Minimise v^T C v / 2 - sum_k b_k phi(v_k); return v and the number of steps."""
    m = len(b)
    cosines = _raised(cosines, eps)
    v = b ** (1 / (1 + p))
    best, lowest, since, iterations = v, float("inf"), 0, 0
    while True:
        product = cosines @ v
        square, pull = (v @ product).item(), (b * v ** (1 - p)).sum().item()
        if not square > 0:
            return best, iterations
        scale = (pull / square) ** (1 / (1 + p))
        v, product = v * scale, product * scale
        force = b * v**-p
        residual = _residual(product, b, p, v, eps / 8).max().item()
        since += 1
        if residual < lowest:
            best, lowest, since = v, residual, 0
        stationary = scale * scale * square <= m * eps / 2 * v.sum().item() ** 2
        if residual <= eps or stationary or since > PATIENCE or iterations >= max_iter:
            return (v if stationary else best), iterations
        iterations += 1
        factor, info = torch.linalg.cholesky_ex(cosines + (p * force / v).diag())
        if info.item():
            return best, iterations
        step = torch.cholesky_solve((force - product)[:, None], factor)[:, 0]
        near = (step @ (force - product)).item() < 0.01 * pull * scale ** (1 - p)  # in Newton's quadratic phase
        v = v + (1.0 if near and (v + step).min() > 0 else _line_search(cosines, b, p, v, product, step)) * step


def _line_search(cosines: Tensor, b: Tensor, p: float, v: Tensor, product: Tensor, step: Tensor) -> float:
    """The minimum of f along `step` from `v`, to two digits: bracketed Newton on the derivative."""
    linear, quadratic = (product @ step).item(), (step @ (cosines @ step)).item()
    shrinking = step < 0
    limit = (v / -step)[shrinking].min().item() if shrinking.any() else float("inf")
    low, high, t = 0.0, limit, min(1.0, 0.99 * limit)
    start = abs(linear - (b * step * v**-p).sum().item())
    for _ in range(30):
        here = v + t * step
        pull = b * step * here**-p
        slope = linear + t * quadratic - pull.sum().item()
        if abs(slope) <= 0.1 * start:
            return t
        low, high = (t, high) if slope < 0 else (low, t)
        new = t - slope / (quadratic + p * (pull * step / here).sum().item())
        if not low < new < high:
            new = 2 * t if high == float("inf") else (low + high) / 2
        t = new
    return low if low > 0 else t
