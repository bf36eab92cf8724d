"""Two tasks: closed forms of what the solvers find, in Python numbers.

For two tasks the overhead of tensors is all that a solver costs: 0.3 to 0.6 ms, of a LeNet's step of 15. Each function
returns None where the answer is at the edge of what a Gramian determines (a zero gradient, nearly parallel or nearly
opposite ones), which is left to the solvers for any number of tasks. Those are the tests' oracle for these.
"""

from collections.abc import Sequence
from math import hypot, sqrt
from typing import NamedTuple

from torch import Tensor

from mtl.aggregation.solvers.min_norm import EPS

EDGE = 1e-6
"""Cosines nearer to 1 or -1 than this, and ratios of eigenvalues below it, are left to the solvers."""

Pair = tuple[float, float]


class Two(NamedTuple):
    """A Gramian of two tasks.

    Attributes:
        norms: Lengths of the gradients, > 0.
        cosine: Between them, in (-1, 1).
    """

    norms: Pair
    cosine: float


def regular(gramian: Tensor) -> Two | None:
    """Norms and cosine; None for a zero gradient and for cosines near 1 and -1."""
    (aa, ab), (_, bb) = gramian.tolist()
    if not min(aa, bb) > 0:
        return None
    norms = sqrt(aa), sqrt(bb)
    cosine = ab / norms[0] / norms[1]
    return Two(norms, cosine) if abs(cosine) < 1 - EDGE else None


def bargain(gramian: Tensor) -> tuple[Pair, float] | None:
    """Nash's bargaining: a with (G a)_k = 1 / a_k, and the residual beyond rounding, as in `Bargain`.

    v_k = a_k |g_k| has C v = 1 / v, which is the same equation for both: v_k = 1 / sqrt(1 + cosine).
    """
    two = regular(gramian)
    if two is None:
        return None
    v = 1 / sqrt(1 + two.cosine)
    residual = abs(v * v * (1 + two.cosine) - 1) - 4 * EPS * v * v
    return (v / two.norms[0], v / two.norms[1]), max(residual, 0.0)


def conflict_averse(gramian: Tensor, c: float) -> tuple[Pair, int, float] | None:
    """CAGrad's dual for c > 0: y, the tasks added to the first, and the gap beyond rounding, as in `ConflictAverse`.

    In its variables (u >= 0, a . u = 1) the minimum is at one task, or the one of the line through both.
    """
    two = regular(gramian)
    if two is None:
        return None
    (one, other), cosine = two
    product = one * other * cosine
    means = (one * one + product) / 2, (product + other * other) / 2
    squared = sum(means) / 2
    if not squared > EDGE * max(one, other) ** 2:  # the average gradient all but vanishes
        return None
    length, low = sqrt(squared), min(two.norms)
    a = low / one, low / other
    beta = means[0] / one / length, means[1] / other / length
    first = 0 if (beta[0] + c) / a[0] <= (beta[1] + c) / a[1] else 1
    second = 1 - first
    added = beta[second] + c * cosine < (beta[first] + c) / a[first] * a[second]
    v = _on_the_line(cosine, a, beta, c) if added else ((c, 0.0) if first == 0 else (0.0, c))
    if v is None:
        return None
    slopes = beta[0] + v[0] + cosine * v[1], beta[1] + cosine * v[0] + v[1]
    value = (v[0] * slopes[0] + v[1] * slopes[1]) / (v[0] * a[0] + v[1] * a[1])
    unit = 2 * EPS * ((one + other) / 2 / length + v[0] + v[1])
    gap = max(value * a[0] - slopes[0] - unit, value * a[1] - slopes[1] - unit, 0.0)
    return (v[0] * length / one, v[1] * length / other), int(added), gap


def _on_the_line(cosine: float, a: Pair, beta: Pair, c: float) -> Pair | None:
    """The minimum of beta . u + c |u|_C over a . u = 1 as v = c u / |u|_C; None where it is not inside u > 0."""
    determinant = (1 - cosine) * (1 + cosine)
    p = (a[0] - cosine * a[1]) / determinant, (a[1] - cosine * a[0]) / determinant
    q = (beta[0] - cosine * beta[1]) / determinant, (beta[1] - cosine * beta[0]) / determinant
    aa, ab, bb = (x[0] * y[0] + x[1] * y[1] for x, y in ((a, p), (a, q), (beta, q)))
    inside = ab * ab - aa * (bb - c * c)
    if not (inside > 0 and aa > 0):
        return None
    multiplier = sqrt(inside)
    v = p[0] * ((ab + multiplier) / aa) - q[0], p[1] * ((ab + multiplier) / aa) - q[1]
    return v if min(v) > 0 else None


def project(gramian: Tensor, vectors: Sequence[Sequence[float]]) -> tuple[list[Pair], int, float] | None:
    """Vectors J^T u projected onto the dual cone: weights, exchanges and residual, as in `Projection`.

    Tried in turn: nothing added, one gradient, both; the first that meets the conditions is the projection.
    """
    two = regular(gramian)
    if two is None:
        return None
    (one, other), cosine = two
    weights, exchanges, residual = [], 0, 0.0
    for first, second in vectors:
        u = first * one, second * other
        length = abs(u[0]) + abs(u[1])
        if length == 0:
            weights.append((first, second))
            continue
        u = u[0] / length, u[1] / length
        found = _added(cosine, u)
        if found is None:
            return None
        y, used = found
        slack = u[0] + y[0] + cosine * (u[1] + y[1]), u[1] + y[1] + cosine * (u[0] + y[0])
        total = 1 + y[0] + y[1]
        unit = 2 * EPS * total
        residual = max(
            residual, *(-s - unit for s in slack), *(abs(z / total * s) - unit for z, s in zip(y, slack, strict=True))
        )
        exchanges = max(exchanges, used)
        weights.append(((u[0] + y[0]) * length / one, (u[1] + y[1]) * length / other))
    return weights, exchanges, residual


def _added(cosine: float, u: Pair) -> tuple[Pair, int] | None:
    """What is added to u (sum |u_k| = 1), and for how many tasks."""
    slack = u[0] + cosine * u[1], u[1] + cosine * u[0]
    unit = 2 * EPS
    if min(slack) >= -unit:
        return (0.0, 0.0), 0
    if slack[0] < 0 and slack[1] - cosine * slack[0] >= -unit:
        return (-slack[0], 0.0), 1
    if slack[1] < 0 and slack[0] - cosine * slack[1] >= -unit:
        return (0.0, -slack[1]), 1
    return ((-u[0], -u[1]), 2) if max(u) <= 0 else None


class Aligned(NamedTuple):
    """Aligned-MTL of two tasks.

    Attributes:
        sums: Row sums of G^(-1/2).
        values: Eigenvalues of G, ascending.
    """

    sums: Pair
    values: Pair


def align(gramian: Tensor) -> Aligned | None:
    """By Cayley-Hamilton: with s = sqrt(det G) and t = sqrt(trace G + 2 s), G^(1/2) = (G + s I) / t."""
    (aa, ab), (_, bb) = gramian.tolist()
    unit = max(aa, bb)
    if not unit > 0:
        return None
    aa, ab, bb = aa / unit, ab / unit, bb / unit  # squares of norms beyond 1e77 would overflow
    large = (aa + bb) / 2 + hypot((aa - bb) / 2, ab)
    determinant = aa * bb - ab * ab
    if not determinant > EDGE * large * large:
        return None
    s = sqrt(determinant)
    t = sqrt(aa + bb + 2 * s)
    root = s * t * sqrt(unit)
    return Aligned(((bb + s - ab) / root, (aa + s - ab) / root), (determinant / large * unit, large * unit))
