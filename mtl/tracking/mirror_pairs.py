"""Pairs of tasks over a whole run, for the mirror: a table and heat maps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.tracking.base import Event

Matrix = list[list[float]]
COLUMNS = ("first", "second", "cosine", "conflicts", "magnitude_similarity", "affinity")


class Pairs:
    """Means over the `diagnostics` events so far, and the last affinities."""

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self._events: list[Event] = []

    def take(self, event: Event) -> None:
        """Take notice of a `diagnostics` event."""
        self.tasks = tuple(event["gradient_norms"])
        self._events.append(event)

    def matrices(self) -> dict[str, Matrix]:
        """`cosine`: the mean; `conflicts`: share of the events with a negative one; NaN where there was none.

        `magnitude_similarity`: the mean; `affinity`: the last, row the source, column the target; if there is one.
        """
        found = {
            "cosine": self._mean("cosines", float),
            "conflicts": self._mean("cosines", lambda value: float(value < 0)),
            "magnitude_similarity": self._mean("magnitude_similarity", float),
        }
        affinities = [event["affinity"] for event in self._events if "affinity" in event]
        if affinities:
            found["affinity"] = [[math.nan if x is None else float(x) for x in row] for row in affinities[-1]]
        return found

    def _mean(self, key: str, of: Any) -> Matrix:
        def entry(i: int, j: int) -> float:
            values = [event[key][i][j] for event in self._events]
            known = [of(value) for value in values if value is not None and math.isfinite(value)]
            return math.fsum(known) / len(known) if known else math.nan

        m = range(len(self.tasks))
        return [[entry(i, j) for j in m] for i in m]

    def rows(self) -> list[list[Any]]:
        """One row an ordered pair, in the order of COLUMNS; None where there is no value."""
        if not self._events:
            return []
        found = self.matrices()
        return [
            [first, second, *(_known(found.get(column), i, j) for column in COLUMNS[2:])]
            for i, first in enumerate(self.tasks)
            for j, second in enumerate(self.tasks)
            if i != j
        ]


def heat_map(matrix: Matrix, tasks: Sequence[str], title: str, *, share: bool = False) -> NDArray[np.uint8]:
    """An image (height, width, 4) of one cell a pair, with numbers for up to 12 tasks.

    Args:
        matrix: The values.
        tasks: Names of rows and columns.
        title: Above it.
        share: Values from 0 to 1, white to red; otherwise red is negative and blue positive, on a scale of 1 or, if all
            values off the diagonal are small, of the largest of them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    m = len(tasks)
    side = 2.5 + 0.45 * m
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    largest = max((abs(x) for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j and x == x), default=0.0)
    limit = 1.0 if share or largest > 0.05 or largest == 0 else largest
    image = axes.imshow(matrix, cmap="Reds" if share else "RdBu", vmin=0.0 if share else -limit, vmax=limit)
    axes.set_xticks(range(m), tasks, rotation=90)
    axes.set_yticks(range(m), tasks)
    axes.set_title(title, fontsize="small")
    figure.colorbar(image)
    if m <= 12:
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                color = "white" if abs(value) > 0.6 * limit else "black"
                axes.text(j, i, "" if value != value else f"{value:.2g}", ha="center", va="center", color=color)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _known(matrix: Matrix | None, i: int, j: int) -> float | None:
    return None if matrix is None or not math.isfinite(matrix[i][j]) else matrix[i][j]
