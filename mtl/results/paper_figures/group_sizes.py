"""Performance and time against the number of groups of tasks (Pascal et al. 2021)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.results.comparison import Cell
from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_table import PaperRow, PaperTable
from mtl.results.styles import COLORS, MARKERS

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
TIMES = ("CPU seconds", "seconds")


def group_sizes(table: PaperTable, definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """Two panels: a column of the table, and the time of training; one line a series.

    Options: `column` (title of the table's column) and `series`: name -> number of groups -> row of the table.

    Raises:
        UserError: No row of a series has runs.
    """
    column = str(definition.options["column"])
    rows = {row.definition.label: row for row in table.rows if row.per_seed}
    series: Mapping[str, Mapping[int, str]] = definition.options["series"]
    found = {
        name: {count: rows[label] for count, label in sorted(points.items()) if label in rows}
        for name, points in series.items()
    }
    if not any(found.values()):
        raise UserError(
            f"No runs of the rows of figure {definition.name} in table {table.definition.name}: nothing to draw. "
            "`plan=true` prints the commands that make them."
        )
    time = next((title for title in TIMES if all(title in row.cost for row in rows.values())), None)
    with canvas(8.4, 3.4) as figure:
        panels = figure.subplots(1, 2)
        for number, (name, points) in enumerate(found.items()):
            style: dict[str, Any] = {
                "color": COLORS[number],
                "marker": MARKERS[number],
                "linestyle": DASHES[number % len(DASHES)],
                "markersize": 6 - number,
                "capsize": 2,
                "linewidth": 1.2,
            }
            cells = {count: _cell(row, column) for count, row in points.items()}
            known = {count: cell for count, cell in cells.items() if cell is not None}
            spread = [cell.sd or 0.0 for cell in known.values()]
            panels[0].errorbar([*known], [c.mean for c in known.values()], yerr=spread, label=name, **style)
            if time is not None:
                panels[1].errorbar([*points], [row.cost[time] for row in points.values()], label=name, **style)
        counts = sorted({count for points in found.values() for count in points})
        for axes in panels:
            axes.set_xscale("log")
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.minorticks_off()
            axes.set_xlabel("number of groups (updates a batch)")
        seeds = sorted({len(row.per_seed) for points in found.values() for row in points.values()})
        panels[0].set_ylabel(f"{column}, {table.definition.split}")
        panels[0].set_title(_direction(table, column), loc="right", fontsize=9, fontstyle="italic", color=GREY)
        panels[1].set_ylabel(f"{time or 'time'} of training")
        panels[1].set_ylim(0, None)
        if time is None:
            panels[1].text(0.5, 0.5, "runs do not say", transform=panels[1].transAxes, ha="center", color=GREY)
        title = f"mean ± sd, seeds: {' to '.join(map(str, seeds[:1] + seeds[1:][-1:]))}"
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), title=title)
        return save(figure, path)


def _cell(row: PaperRow, column: str) -> Cell | None:
    return row.delta_m[column] if column in row.delta_m else row.cells[column].ours if column in row.cells else None


def _direction(table: PaperTable, column: str) -> str:
    one = next((c for c in table.columns if c.title == column), None)
    info = next((i[one.metric] for i in table.infos.values() if one and one.metric in i), None)
    return "higher is better" if info is None or info.higher_is_better else "lower is better"
