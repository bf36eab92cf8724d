"""What many runs recorded, thinned to mean and spread per method: 200 runs are as light as their methods."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.results.statistics import mean, sample_sd

POINTS = 60
"""Most points of a line over evaluations."""
BINS = 24
"""Points of a line over noisy values of single steps: enough for a trend, few enough to see it."""


@dataclass(frozen=True)
class Point:
    """Mean and sample standard deviation (None for one run) of `n` runs at `x`."""

    x: float
    mean: float
    sd: float | None
    n: int


Series = tuple[Point, ...]
Trace = Mapping[float, float]
"""One run: x -> value."""


def at_recorded(traces: Sequence[Trace], most: int = POINTS) -> Series:
    """Mean over runs where they recorded; of more than `most` places every n-th, the last one always."""
    places = sorted({x for trace in traces for x in trace})
    every = max(1, math.ceil(len(places) / most))
    return _points({x: [trace[x] for trace in traces if x in trace] for x in places[::-1][::every][::-1]})


def in_bins(traces: Sequence[Trace], most: int = BINS) -> Series:
    """For noisy values: the mean of each run over a stretch of steps, then mean and spread over runs.

    With at most `most` recorded steps nothing is averaged over steps.
    """
    places = sorted({x for trace in traces for x in trace})
    if len(places) <= most:
        return at_recorded(traces, most)
    edges = [places[len(places) * i // most] for i in range(1, most)]
    bins: list[list[float]] = [[] for _ in range(most)]
    values: dict[int, list[float]] = {}
    for x in places:
        bins[bisect_right(edges, x)].append(x)
    for trace in traces:
        parts: dict[int, list[float]] = {}
        for x, value in trace.items():
            parts.setdefault(bisect_right(edges, x), []).append(value)
        for number, part in parts.items():
            values.setdefault(number, []).append(mean(part))
    centres = {number: mean(inside) for number, inside in enumerate(bins) if inside}
    return _points({centres[number]: same for number, same in sorted(values.items())})


def _points(values: Mapping[float, Sequence[float]]) -> Series:
    return tuple(Point(x, mean(same), sample_sd(same), len(same)) for x, same in values.items() if same)
