"""The few statistics that tables need."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Column = TypeVar("Column", bound=Hashable)

TIE_RULE = "average"
"""Equal values share the mean of the ranks they occupy (others use dense ranks, e.g. SDMGrad)."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value; exact summation, so the order of `values` does not matter."""
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else float("nan")


def sample_sd(values: Sequence[float]) -> float | None:
    """Sample standard deviation (divisor n - 1); None for fewer than two values, where there is none."""
    if len(values) < 2:
        return None
    centre = mean(values)
    if math.isnan(centre):
        return float("nan")
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Rank of each value, 1 = best; ties get the average of their ranks."""
    keys = [-value if higher_is_better else value for value in values]
    return [sum(other < key for other in keys) + (keys.count(key) + 1) / 2 for key in keys]


def mean_rank(
    values: Mapping[str, Mapping[Column, float]], higher_is_better: Mapping[Column, bool]
) -> dict[str, float]:
    """Mean rank of each method over the columns of `higher_is_better`, in [1, number of methods], 1 = best.

    A mean rank belongs to its list of competitors, the keys of `values`: it moves when one is added, even if no
    measured number does. Print the list beside it, with `TIE_RULE`.

    Args:
        values: Method -> column -> finite value, every column for every method.
        higher_is_better: Column -> direction.
    """
    methods = list(values)
    totals = dict.fromkeys(methods, 0.0)
    for column, higher in higher_is_better.items():
        for method, rank in zip(methods, ranks([values[name][column] for name in methods], higher), strict=True):
            totals[method] += rank
    return {method: total / len(higher_is_better) for method, total in totals.items()}
