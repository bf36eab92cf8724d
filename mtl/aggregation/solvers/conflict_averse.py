"""CAGrad's direction: the vector in a ball around the average gradient that serves the worst task best.

Primal: maximise min_k g_k . d over |d - g0| <= c |g0|. Dual: minimise F(w) = g_w . g0 + c |g0| |g_w| over the simplex,
and d = g0 + J^T y with y = w c |g0| / |g_w|. Optimal where every g_k . d is at least F(w), the mean of them under w.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.aggregation.solvers import two_tasks
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from mtl.aggregation.solvers.min_norm import EPS, EPS32

ROUNDING = 16
"""|g_w|^2 up to this many units of rounding is taken for 0, if the dual cone's projection is in the ball."""

MANY = 8
"""Tasks from which on a start with several of them is worth its solves."""


@dataclass(frozen=True)
class ConflictAverse:
    """An answer and how good it is.

    Attributes:
        extra: y (m,) >= 0, what is added to the weights 1/m of the average.
        iterations: Tasks added to the active set.
        gap: Largest shortfall (F(w) - g_k . d) / (|g_k| |g0|) beyond rounding, 0 at the optimum.
        converged: Whether `gap` is within the tolerance.
        stationary: 0 is in the hull of the gradients and no common descent exists: the ball does not bind.
    """

    extra: Tensor
    iterations: int
    gap: float
    converged: bool
    stationary: bool


def conflict_averse(gramian: Tensor, c: float, tol: float = 1e-9, max_iter: int = 1000) -> ConflictAverse:
    """Solve the dual by an active-set method: exact up to rounding, finitely many iterations.

    The minimum of F over the affine hull of a set of tasks is known in closed form, or F falls without end along a
    known direction. As in Wolfe's method, tasks are added where optimality is violated most, dropped where the way to
    the minimum leaves the simplex. Variables are scaled by the norms: with the cosines C, v_k = y_k |g_k| / |g0|.

    Where g_w = 0 at the optimum, the gradients are Pareto-stationary and y is not determined by w; the answer then is
    the limit of larger and larger multipliers, which is the projection of g0 onto the dual cone. Zero rows have no part
    in the minimum over tasks (with them, the primal value is at most 0 whatever d is).

    Args:
        gramian: G (m, m), symmetric, positive semi-definite, finite.
        c: Radius of the ball relative to |g0|, >= 0.
        tol: Limit of `gap`.
        max_iter: Limit of additions.
    """
    if len(gramian) == 2 and c > 0:
        found = two_tasks.conflict_averse(gramian, c)
        if found is not None and found[2] <= tol:
            return ConflictAverse(torch.tensor(found[0], dtype=gramian.dtype), found[1], found[2], True, False)
    return _any_number(gramian, c, tol, max_iter)


def _any_number(gramian: Tensor, c: float, tol: float, max_iter: int) -> ConflictAverse:
    m = len(gramian)
    norms = gramian.diagonal().clamp_min(0).sqrt()
    products = gramian.mean(1)
    length = products.mean().clamp_min(0).sqrt()
    nothing = torch.zeros_like(norms)
    if c == 0 or length <= (m * EPS) ** 0.5 * norms.mean():
        return ConflictAverse(nothing, 0, 0.0, True, c > 0)
    live = norms > 0
    size = norms[live]
    cosines = gramian[live][:, live] / size / size[:, None]
    a, beta = size.min() / size, products[live] / size / length
    spread = (norms.mean() / length).item()
    iterations, gap, best = 0, float("inf"), nothing[live]
    for eps in (EPS, EPS32):
        u, used = _active_set(cosines, a, beta, c, spread, max_iter - iterations, eps)
        iterations += used
        square, total = (u @ cosines @ u).item(), u.sum().item()
        if square <= ROUNDING * len(u) * eps * total**2:
            found = project_to_dual_cone(gramian, torch.full((1, m), 1 / m, dtype=gramian.dtype), max_iter=max_iter)
            extra = found.weights[0] - 1 / m
            if (extra @ gramian @ extra).clamp_min(0).sqrt() <= c * length * (1 + 1e-9):
                steps = iterations + found.iterations
                return ConflictAverse(extra, steps, found.residual, found.converged, True)
        v = u * (c / max(square, len(u) * eps * total**2) ** 0.5)  # below that the square is rounding, of either sign
        slack = _slack(cosines @ v, a, beta, v)
        unit = len(u) * eps * (spread + v.sum().item())
        shortfall = max((-slack - unit).max().item(), 0.0)
        if shortfall < gap:
            gap, best = shortfall, v
        if gap <= tol or iterations >= max_iter:
            break
    extra = nothing.clone()
    extra[live] = best * length / size
    return ConflictAverse(extra, iterations, gap, gap <= tol, False)


def _slack(product: Tensor, a: Tensor, beta: Tensor, v: Tensor) -> Tensor:
    """(g_k . d - F) / (|g_k| |g0|), >= 0 at the optimum, given C v."""
    gradient = beta + product
    return gradient - (v @ gradient) / (v @ a) * a


def _active_set(
    cosines: Tensor, a: Tensor, beta: Tensor, c: float, spread: float, max_iter: int, eps: float
) -> tuple[Tensor, int]:
    """Minimise beta . u + c |u|_C over u >= 0, a . u = 1; return u and the number of additions."""
    m = len(a)
    cosines = cosines + m * eps / 4 * torch.eye(m, dtype=a.dtype)
    u = _start(cosines, a, beta, c)
    lowest, least, best, iterations = float("inf"), float("inf"), u, 0
    while True:
        product = cosines @ u
        norm = (u @ product).sqrt()
        value = (beta @ u + c * norm).item()
        v = u * (c / norm)
        slack = _slack(product * (c / norm), a, beta, v)
        worst = int(slack.argmin())
        violation = -slack[worst].item()
        if value >= lowest and violation >= least:
            return best, iterations  # rounding: neither the value nor the violation falls any further
        lowest, least, best = min(value, lowest), violation, u
        if violation <= m * eps * (spread + v.sum().item()) / 2 or iterations >= max_iter or u[worst] > 0:
            return best, iterations
        iterations += 1
        u = _descend(cosines, a, beta, c, u, worst)


def _start(cosines: Tensor, a: Tensor, beta: Tensor, c: float) -> Tensor:
    """The best single task; of many, where it is not the answer, the minimum over the hull of several.

    Tried are all tasks, then the half with the lowest slopes, and so on, until their hull has a minimum. Those whose
    weight is not positive there are dropped together, which saves as many additions.
    """
    first = int(((beta + c) / a).argmin())
    alone = torch.zeros_like(a)
    alone[first] = 1 / a[first]
    gradient = beta + c * cosines[first]
    if len(a) < MANY or (gradient >= gradient[first] / a[first] * a).all():
        return alone
    order, size = (beta / a).argsort(), len(a)
    while size:
        active = order[:size].sort().values
        while len(active):
            if torch.linalg.cholesky_ex(cosines[active[:, None], active]).info.item():
                return alone  # not positive definite: rounding leaves nothing to go by
            p, q, aa, ab, inside = _hull(cosines, a, beta, c, active)
            if not inside > 0 or aa <= 0:
                break
            target = p * ((ab + inside**0.5) / aa) - q
            keep = target > 0
            if keep.all():
                return torch.zeros_like(a).index_copy_(0, active, target / (a[active] @ target))
            active = active[keep]
        size //= 2
    return alone


class Hull(NamedTuple):
    """What the minimum of F over the affine hull of some tasks is made of.

    Attributes:
        p: C^-1 a.
        q: C^-1 beta.
        aa: a C^-1 a.
        ab: a C^-1 beta.
        inside: Positive if F has a minimum there: the square of its multiplier.
    """

    p: Tensor
    q: Tensor
    aa: float
    ab: float
    inside: float


def _hull(cosines: Tensor, a: Tensor, beta: Tensor, c: float, active: Tensor) -> Hull:
    """Of the tasks `active`."""
    sides = torch.stack([a[active], beta[active]], 1)
    solved, _ = torch.linalg.solve_ex(cosines[active[:, None], active], sides)
    p, q = solved.unbind(1)
    (aa, ab), (_, bb) = (sides.T @ solved).tolist()
    return Hull(p, q, aa, ab, ab * ab - aa * (bb - c * c))


def _descend(cosines: Tensor, a: Tensor, beta: Tensor, c: float, u: Tensor, new: int) -> Tensor:
    """Move to the minimum over the hull of `new` and the tasks with u > 0, dropping tasks until it is inside."""
    keep = u > 0
    keep[new] = True
    active = keep.nonzero().flatten()
    here = u[active]
    while True:
        p, q, aa, ab, inside = _hull(cosines, a, beta, c, active)
        if inside != inside or aa <= 0:  # NaN, or not positive definite: no descent, the caller stops
            return u
        if inside > 0:
            multiplier = inside**0.5
            target = (p * ((ab + multiplier) / aa) - q) / multiplier
            if target.min() > 0 or len(active) == 1:
                return torch.zeros_like(u).index_copy_(0, active, target / (a[active] @ target))
            direction = target - here
        else:  # no minimum: F falls along the whole ray
            direction = p * (ab / aa) - q
        steps = torch.where(direction < 0, here / -direction, torch.inf)
        first = int(steps.argmin())
        if not torch.isfinite(steps[first]):
            return u
        here = (here + steps[first] * direction).clamp_min(0)
        here[first] = 0.0
        keep = here > 0
        active, here = active[keep], here[keep]
        if not len(active):
            return u
