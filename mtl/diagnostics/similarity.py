"""How task gradients compare, from their Gramian alone. All in float64; NaN where a quantity is not defined."""

import math

import torch
from torch import Tensor

PIECE = 1 << 20
"""Entries of a vector that are looked at together: copies in float64 stay small."""


def norms(gramian: Tensor) -> Tensor:
    """Lengths (m,) of the task gradients, from G (m, m)."""
    return gramian.diagonal().clamp_min(0).sqrt()


def cosines(gramian: Tensor) -> Tensor:
    """(m, m) cosines of the angles between task gradients, in [-1, 1]; NaN for a gradient of length 0."""
    lengths = norms(gramian)
    found = (gramian / lengths[:, None] / lengths[None, :]).clamp(-1, 1)
    found.fill_diagonal_(1.0)
    defined = (lengths > 0) & lengths.isfinite()
    return torch.where(defined[:, None] & defined[None, :], found, torch.nan)


def magnitude_similarity(gramian: Tensor) -> Tensor:
    r"""(m, m) of :math:`2 \|g_i\| \|g_j\| / (\|g_i\|^2 + \|g_j\|^2)`, in [0, 1] (Yu et al. 2020, PCGrad).

    1 for equal lengths, 0 if one gradient is 0, NaN if both are.
    """
    lengths = norms(gramian)
    larger = torch.maximum(lengths[:, None], lengths[None, :])
    ratio = torch.minimum(lengths[:, None], lengths[None, :]) / larger
    return 2 * ratio / (1 + ratio**2)


def conflict_rate(cosine: Tensor) -> float:
    """Share of the pairs of tasks whose cosine is negative, among the pairs that have one; NaN without such a pair."""
    m = len(cosine)
    i, j = torch.triu_indices(m, m, offset=1)
    pairs = cosine[i, j]
    pairs = pairs[~pairs.isnan()]
    return float((pairs < 0).double().mean()) if len(pairs) else math.nan


def condition_number(gramian: Tensor, precision: float) -> float:
    r"""Ratio of the largest to the smallest singular value of the Jacobian (m, n), 1 to infinity (as in Aligned-MTL).

    Args:
        gramian: G = J J^T (m, m).
        precision: Relative rounding error of G's entries. A smallest eigenvalue below m times it is no number: then J
            counts as rank-deficient, and the result is infinite.
    """
    if not bool(gramian.isfinite().all()):
        return math.nan
    values = torch.linalg.eigvalsh(gramian)
    largest, smallest = float(values[-1]), float(values[0])
    if largest <= 0:
        return math.nan
    return math.inf if smallest <= len(values) * precision * largest else math.sqrt(largest / smallest)


def angle(first: Tensor, second: Tensor) -> float:
    """Degrees, 0 to 180, between two vectors (n,); NaN if one has length 0. Exact to rounding at 0 and 180, too."""
    lengths = [torch.linalg.vector_norm(vector, dtype=torch.float64) for vector in (first, second)]
    apart = together = torch.zeros((), dtype=torch.float64, device=first.device)
    for pieces in zip(torch.split(first, PIECE), torch.split(second, PIECE), strict=True):
        one, other = (piece.double() / length for piece, length in zip(pieces, lengths, strict=True))
        apart = apart + (one - other).square().sum()
        together = together + (one + other).square().sum()
    if min(map(float, lengths)) == 0:
        return math.nan
    return math.degrees(2 * math.atan2(math.sqrt(float(apart)), math.sqrt(float(together))))
