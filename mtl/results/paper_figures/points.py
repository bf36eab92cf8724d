"""Rows of a table as points: what the figures of tables share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mtl.results.definition import TableDefinition, TableRow
from mtl.results.drawing import GREY
from mtl.results.paper_table import PaperRow, PaperTable
from mtl.results.plan import PlannedRun
from mtl.results.statistics import mean, sample_sd
from mtl.results.styles import method_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
STAR: dict[str, Any] = {"marker": "*", "markersize": 14, "markeredgecolor": "black", "markeredgewidth": 0.8}
HOLLOW = "hollow: as published"


def split_row(
    definition: TableDefinition, jobs: Sequence[PlannedRun], label: str, parameter: str
) -> tuple[TableDefinition, list[PlannedRun]]:
    """The table with one row per value of a parameter instead of the row `label`, each with its own best candidate."""
    rows: list[TableRow] = []
    for row in definition.rows:
        if row.label != label:
            rows.append(row)
            continue
        values = dict.fromkeys(job.overrides[parameter] for job in jobs if job.row == label)
        rows += [replace(row, label=_part(label, v), where={**row.where, parameter: v}) for v in values]
    split = [replace(job, row=_part(label, job.overrides[parameter])) if job.row == label else job for job in jobs]
    reference = None if definition.reference == label else definition.reference
    return replace(definition, rows=tuple(rows), reference=reference), split


def _part(label: str, value: str) -> str:
    return f"{label.partition(' ')[0]} {value}"


def is_part(row: PaperRow, parameter: str | None) -> bool:
    """Whether a row came of `split_row`."""
    return parameter is not None and parameter in row.definition.where


def methods(table: PaperTable, parameter: str | None = None) -> list[PaperRow]:
    """Rows that are neither the single-task row nor parts of a split one."""
    return [row for row in table.rows if not row.definition.is_single_task and not is_part(row, parameter)]


def styles(table: PaperTable, parameter: str | None = None) -> dict[str, tuple[str, str]]:
    """Colour and marker by row label; the same whether or not a row has runs."""
    return method_styles([row.definition.label for row in methods(table, parameter)])


def name(row: PaperRow) -> str:
    """A row's name in a legend, with the number of its seeds."""
    seeds = f" ({len(row.per_seed)} seed{'s' if len(row.per_seed) != 1 else ''})" if row.per_seed else ""
    return row.label.replace("single_task", "single task") + seeds


def draw_point(axes: "Axes", pairs: Mapping[int, Point], label: str, color: str, marker: str) -> None:
    """Every seed as a dot, the mean as a marker with its standard deviations."""
    xs, ys = zip(*pairs.values(), strict=True)
    if len(pairs) > 1:
        axes.plot(xs, ys, linestyle="", marker=".", markersize=4, color=color, alpha=0.6, zorder=2)
    spread: dict[str, Any] = {"xerr": sample_sd(xs), "yerr": sample_sd(ys)}
    axes.errorbar(mean(xs), mean(ys), **spread, fmt="none", ecolor=color, elinewidth=1.0, zorder=3)
    style: dict[str, Any] = {"color": color, "markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.8}
    axes.plot([mean(xs)], [mean(ys)], linestyle="", marker=marker, **style, zorder=5, label=label)


def draw_hollow(axes: "Axes", point: Point, color: str, marker: str) -> None:
    """A published value."""
    style: dict[str, Any] = {"markersize": 13 if marker == "*" else 8, "markeredgewidth": 1.3}
    axes.plot(*([v] for v in point), linestyle="", marker=marker, color=color, fillstyle="none", **style, zorder=4)


def explain_hollow(axes: "Axes") -> None:
    """The line of the legend that says what hollow markers are."""
    axes.plot([], [], linestyle="", marker="o", color=GREY, fillstyle="none", markeredgewidth=1.3, label=HOLLOW)


def non_dominated(points: Sequence[Point], higher: tuple[bool, bool]) -> list[Point]:
    """Points that no other one equals or beats in both coordinates and beats in one, sorted by the first."""
    signs = [1 if better else -1 for better in higher]

    def beats(one: Point, other: Point) -> bool:
        gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    return sorted({point for point in points if not any(beats(other, point) for other in points)})
