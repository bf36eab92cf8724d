"""The section on where Delta_m comes from: the gain in every metric."""

import math
from statistics import median

from mtl.results.comparison import Cell, Column, Row
from mtl.results.report.glyphs import name
from mtl.results.report.markup import tag
from mtl.results.report.material import Material, Section
from mtl.results.report.numbers import signed
from mtl.results.report.tables import Entry, Head, heat, sortable


def gains_section(material: Material) -> Section | None:
    """Relative gain over single-task training, metric by metric."""
    columns = material.comparison.columns
    if len(columns) < 2 or not material.has_delta_m:
        return None
    baselines = {row.method.runs[0].setting_hash: row for row in material.rows if row.method.is_baseline}
    found: list[tuple[Row, dict[Column, float]]] = []
    for row in material.competitors:
        baseline = baselines.get(row.method.runs[0].setting_hash)
        if baseline is not None and row.delta_m:
            found.append(
                (row, {column: _gain(row.values[column], baseline.values[column], column) for column in columns})
            )
    largest = max((abs(value) for _, gains in found for value in gains.values()), default=0.0)
    group = "gain over single-task, %"
    heads = [
        Head("method", text=True),
        Head("median", 1, about="Of the gains in all metrics: one metric alone cannot move it far"),
        Head("worst", 1, about="The smallest gain, and the metric where it is"),
        *(Head(f"{column.task} {column.metric}", 1, group=group) for column in columns),
    ]
    lines = []
    for row, gains in found:
        worst = min(gains, key=lambda column: gains[column])
        middle = median(gains.values())
        cells = [
            Entry(name(material.looks[row.label]), row.label),
            Entry(signed(middle), middle),
            Entry((signed(gains[worst]), tag("span", f" {worst.task}", class_="sd")), gains[worst]),
            *(
                Entry(
                    tag("span", signed(gains[c]), class_="heat", style=heat(gains[c], largest)),
                    gains[c],
                    _side(gains[c]),
                )
                for c in columns
            ),
        ]
        lines.append((cells, material.looks[row.label].key))
    aid = (
        "Delta_m is a mean, and one metric can make it alone. Signs are turned so that + is better for every metric; "
        "the ground of a cell grows with the size of the gain or loss."
    )
    return Section("gains", "Where Delta_m comes from", aid, sortable("Gain per metric", heads, lines, "gains"))


def _gain(ours: Cell, baseline: Cell, column: Column) -> float:
    sign = 1 if column.higher_is_better else -1
    return 100 * sign * (ours.mean - baseline.mean) / abs(baseline.mean)


def _side(value: float) -> str:
    return "up" if value > 0 and math.isfinite(value) else "down" if value < 0 else ""
