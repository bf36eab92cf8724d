"""Is a difference larger than the noise between seeds? Paired where both methods ran with the same seeds.

The verdict rests on Student's t, which is exact for normal differences. The paired bootstrap stands beside it: with n
seeds it has only C(2n-1, n) distinct resamples (3 for two seeds, 10 for three), its interval ends at the smallest and
largest difference, and "0 is outside" then means no more than "all seeds agree about the sign", which two methods of
equal quality do with probability 2 * (1/2)^n: 50 % for two seeds, 25 % for three. Nothing here corrects for the number
of comparisons in a table.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mtl.results.statistics import mean, sample_sd

ALPHA = 0.05
POWER = 0.8
LARGER, WITHIN, ONE_SEED = "larger than seed noise", "within seed noise", "one seed: no verdict"
NO_SPREAD, EQUAL, UNDEFINED = "no spread: no verdict", "equal in every seed", "undefined"
ROUNDING = 1e-12
"""Spreads and differences below this share of the values are rounding."""
EXACT_SEEDS = 5
"""Up to so many seeds all n^n resamples are listed; above, `RESAMPLES` are drawn with the seed `BOOTSTRAP_SEED`."""
RESAMPLES, BOOTSTRAP_SEED = 10_000, 0
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Difference:
    """A difference and what the seeds say about it.

    Where there is no verdict (one seed, no spread, an undefined value) there is no interval, no p-value and no number
    of seeds either: seeds that agree to the last digit are no proof that the next one will.

    Attributes:
        mean: Of the differences; NaN if one is undefined.
        sd: Their sample standard deviation; None for one seed or an undefined value.
        n: Number of seeds.
        half_width: Of the 95 % interval of Student's t; None without a verdict.
        p_value: Two-sided; None without a verdict.
        bootstrap: 95 % percentile interval of the paired bootstrap; None without a verdict.
        seeds_needed: Seeds for 80 % power at this mean and spread; None if more than 1000 or without a verdict.
    """

    mean: float
    sd: float | None
    n: int
    half_width: float | None
    p_value: float | None
    bootstrap: tuple[float, float] | None
    seeds_needed: int | None

    @property
    def verdict(self) -> str:
        """`LARGER` if the t interval leaves out 0, else `WITHIN`; otherwise why there is no such verdict."""
        if not math.isfinite(self.mean):
            return UNDEFINED
        if self.sd is None:
            return ONE_SEED
        if self.half_width is None:
            return NO_SPREAD if self.mean else EQUAL
        return LARGER if abs(self.mean) > self.half_width else WITHIN


def paired_difference(ours: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """Difference of two methods over the seeds they share; None if they share none."""
    shared = sorted(set(ours) & set(other))
    if not shared:
        return None
    scale = max(abs(values[seed]) for seed in shared for values in (ours, other))
    return difference([ours[seed] - other[seed] for seed in shared], scale=scale)


def difference(values: Sequence[float], uncertainty: float = 0.0, scale: float = 0.0) -> Difference:
    """What differences say; one per seed, at least one.

    Args:
        values: The differences.
        uncertainty: Half-width of the 95 % interval of the other side where it is a published value with one; added in
            quadrature. A published value without one is taken as exact.
        scale: Size of the values that were subtracted: what is small beside it is rounding.
    """
    centre, sd, n = mean(values), sample_sd(values), len(values)
    if sd is None or not math.isfinite(centre):
        return Difference(centre, None, n, None, None, None, None)
    rounding = ROUNDING * max(scale, *map(abs, values)) if math.isfinite(scale) else 0.0
    if sd <= rounding:
        return Difference(0.0 if abs(centre) <= rounding else centre, 0.0, n, None, None, None, None)
    half = math.hypot(half_width(sd, n), uncertainty)
    return Difference(
        centre, sd, n, half, _p_value(centre, sd, n), bootstrap_interval(values), seeds_needed(centre, sd)
    )


def half_width(sd: float, n: int) -> float:
    """Of the 95 % interval of Student's t for a mean of n >= 2 values with this sample standard deviation."""
    return float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * sd / math.sqrt(n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: below 0.05 holds for all comparisons of a family jointly."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _p_value(centre: float, sd: float, n: int) -> float:
    return float(2 * stats.t.sf(abs(centre) / (sd / math.sqrt(n)), n - 1))


def bootstrap_interval(values: Sequence[float], level: float = 1 - ALPHA) -> tuple[float, float]:
    """Percentile interval of the mean under resampling of the seeds.

    All n^n resamples up to `EXACT_SEEDS` seeds, so nothing is drawn; `RESAMPLES` seeded draws above.
    """
    if len(values) <= EXACT_SEEDS:
        indices = np.array(list(itertools.product(range(len(values)), repeat=len(values))))
    else:
        indices = np.random.default_rng(BOOTSTRAP_SEED).integers(0, len(values), (RESAMPLES, len(values)))
    means = np.sort(np.asarray(values, dtype=np.float64)[indices].mean(axis=1))
    tail, last = (1 - level) / 2, len(means) - 1
    return float(means[math.floor(tail * last)]), float(means[math.ceil((1 - tail) * last)])


def power(effect: float, n: int) -> float:
    """Power of the two-sided paired t test at level `ALPHA`.

    Args:
        effect: Mean difference in units of its standard deviation.
        n: Number of pairs, at least 2.
    """
    critical = float(stats.t.ppf(1 - ALPHA / 2, n - 1))
    shift = abs(effect) * math.sqrt(n)
    upper, lower = float(stats.nct.sf(critical, n - 1, shift)), float(stats.nct.cdf(-critical, n - 1, shift))
    return upper + (0.0 if math.isnan(lower) else lower)  # SciPy returns NaN where the wrong tail is below 1e-17


def seeds_needed(centre: float, sd: float) -> int | None:
    """Smallest number of paired seeds with `POWER`, if mean and spread are as observed; None above `MAX_SEEDS`.

    None without a spread too: a difference with sd 0 would need two seeds, which says nothing.
    A difference and spread observed on two or three seeds are themselves rough; so is this number.
    """
    if sd == 0:
        return None
    effect = abs(centre) / sd
    if not math.isfinite(effect) or _enough(effect, MAX_SEEDS) is False:
        return None
    low, high = 2, MAX_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(effect, middle) else (middle + 1, high)
    return low


def _enough(effect: float, n: int) -> bool:
    if effect * math.sqrt(n) > 30:
        return True  # beyond what the non-central t computes, and certain
    return power(effect, n) >= POWER
