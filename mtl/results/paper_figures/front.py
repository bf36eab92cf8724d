"""Two tasks against each other with the front of a grid search, as Figure 3 of Sener and Koltun (2018)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.errors import UserError
from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures import points as point
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_table import PaperRow, PaperTable
from mtl.results.statistics import mean
from mtl.results.styles import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mtl.results.definition import TableColumn


def front(table: PaperTable, definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """The first two columns of the table: every method, single-task lines, and the grid's non-dominated points.

    Options: `grid.row` and `grid.parameter` (the row that is split into points of the grid), `published` (draw the
    published values as hollow markers).

    Raises:
        UserError: The table has not two columns, or no runs and no published values to draw.
    """
    if len(table.columns) < 2:
        raise UserError(f"Figure {definition.name} needs a table of two columns. Found {len(table.columns)}.")
    x, y = table.columns[:2]
    parameter = (definition.options.get("grid") or {}).get("parameter")
    published = bool(definition.options.get("published"))
    if not any(row.per_seed for row in table.rows) and not published:
        raise UserError(
            f"No runs of table {table.definition.name}: nothing to draw. Make them with the commands that `plan=true` "
            "prints, or add `published=true` for the paper's values alone."
        )
    styles = point.styles(table, parameter)
    with canvas(6.8, 4.4) as figure:
        axes = figure.add_subplot()
        for row in table.rows:
            if row.definition.is_single_task:
                _draw_single_task(axes, row, x, y, published)
        grid = [row for row in table.rows if point.is_part(row, parameter)]
        _draw_grid(axes, grid, x, y, _directions(table, x, y), named=not published)
        for row in point.methods(table, parameter):
            _draw_method(axes, row, x, y, styles[row.definition.label], published)
        if published:
            point.explain_hollow(axes)
        axes.margins(0.08)
        axes.set_xlabel(_label(table, x))
        axes.set_ylabel(_label(table, y))
        higher = _directions(table, x, y)
        corner = f"{'top' if higher[1] else 'bottom'} {'right' if higher[0] else 'left'} is better"
        axes.set_title(corner, loc="right", fontsize=9, fontstyle="italic", color=GREY)
        figure.legend(loc="outside right upper", title="mean ± sd over seeds", alignment="left", labelspacing=0.7)
        return save(figure, path)


def _pairs(row: PaperRow, x: "TableColumn", y: "TableColumn") -> dict[int, point.Point]:
    return {
        seed: (values[x.title], values[y.title])
        for seed, values in row.per_seed.items()
        if x.title in values and y.title in values
    }


def _published(row: PaperRow, x: "TableColumn", y: "TableColumn") -> point.Point | None:
    papers = [row.cells[column.title].paper for column in (x, y)]
    values = [paper.value for paper in papers if paper is not None]
    return (values[0], values[1]) if len(values) == 2 else None


def _draw_single_task(axes: "Axes", row: PaperRow, x: "TableColumn", y: "TableColumn", published: bool) -> None:
    """Dashed lines through the mean of each task, whose networks need not share seeds, and a star where they cross."""
    lines: dict[str, Any] = {"color": GREY, "linestyle": (0, (5, 3)), "linewidth": 1.0, "zorder": 1}
    cells = [row.cells[column.title].ours for column in (x, y)]
    if cells[0] is not None:
        axes.axvline(cells[0].mean, **lines)
    if cells[1] is not None:
        axes.axhline(cells[1].mean, **lines)
    if cells[0] is not None and cells[1] is not None:
        axes.plot([cells[0].mean], [cells[1].mean], "w", linestyle="", **point.STAR, zorder=4, label=point.name(row))
    value = _published(row, x, y)
    if published and value is not None:
        if None in cells:
            axes.plot([], [], linestyle="", marker="*", color=GREY, fillstyle="none", label=point.name(row))
        point.draw_hollow(axes, value, GREY, "*")


def _draw_method(
    axes: "Axes", row: PaperRow, x: "TableColumn", y: "TableColumn", style: tuple[str, str], published: bool
) -> None:
    pairs = _pairs(row, x, y)
    if pairs:
        point.draw_point(axes, pairs, point.name(row), *style)
    value = _published(row, x, y)
    if published and value is not None:
        if not pairs:
            axes.plot([], [], linestyle="", marker=style[1], color=style[0], fillstyle="none", label=point.name(row))
        point.draw_hollow(axes, value, *style)


def _draw_grid(
    axes: "Axes", rows: list[PaperRow], x: "TableColumn", y: "TableColumn", higher: tuple[bool, bool], named: bool
) -> None:
    """Each weight choice as a small cross, and a line through those that none dominates.

    Their weights stand beside them where there is room: not when published values, far away, compress the axes.
    """
    centres: dict[str, point.Point] = {}
    for row in rows:
        if pairs := _pairs(row, x, y):
            xs, ys = zip(*pairs.values(), strict=True)
            centres[row.definition.label] = mean(xs), mean(ys)
    if not centres:
        return
    best = point.non_dominated(list(centres.values()), higher)
    counts = sorted({len(row.per_seed) for row in rows if row.per_seed})
    seeds = (
        f"{counts[0]} seed{'s' if counts[0] != 1 else ''}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    )
    axes.plot(*zip(*best, strict=True), color="black", linewidth=1.1, zorder=2, label="front of the grid search")
    style: dict[str, Any] = {"marker": "x", "color": "black", "markersize": 5, "markeredgewidth": 1.2}
    axes.plot(*zip(*centres.values(), strict=True), linestyle="", **style, zorder=3, label=f"static weights ({seeds})")
    for label, centre in centres.items() if named else ():
        text = label.partition(" ")[2].strip("[]").replace(",", " : ")
        axes.annotate(text, centre, (4, 4), textcoords="offset points", fontsize=6.5, color=GREY, zorder=6)


def _directions(table: PaperTable, *columns: "TableColumn") -> tuple[bool, bool]:
    """Whether higher is better, from the runs or else from the published table."""
    found = []
    for column in columns:
        info = table.infos.get(column.task, {}).get(column.metric)
        metrics = table.definition.published.metrics if table.definition.published else ()
        printed = next((metric.higher_is_better for metric in metrics if metric.key == column.published), True)
        found.append(info.higher_is_better if info else printed)
    return found[0], found[1]


def _label(table: PaperTable, column: "TableColumn") -> str:
    unit = f" ({UNITS[column.metric]})" if column.metric in UNITS else ""
    return f"{column.task}: {table.definition.split} {column.metric}{unit}"
