"""Error per attribute as radar charts, as Figure 2 of Sener and Koltun (2018)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.errors import UserError
from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_table import PaperRow, PaperTable
from mtl.results.styles import method_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)))


def radar(table: PaperTable, definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """One chart for each list of columns: the published values, and ours below where there are runs.

    Options: `charts`, title -> numbers of the columns, in the order of the published table.
    """
    charts: Mapping[str, Sequence[int]] = definition.options["charts"]
    sources = {
        title: values
        for title, values in (("as published", _published(table)), ("ours, mean over seeds", _ours(table)))
        if values
    }
    if not sources:
        raise UserError(
            f"Figure {definition.name}: table {table.definition.name} has neither runs nor published values. "
            "`plan=true` prints the commands that make its runs."
        )
    labels = {label for values in sources.values() for label in values}
    order = [row for row in table.rows if row.definition.label in labels]
    with canvas(5.6 * len(charts), 5.2 * len(sources) + 0.5) as figure:
        for number, (source, values) in enumerate(sources.items()):
            for place, (title, columns) in enumerate(charts.items()):
                position = (len(sources), len(charts), number * len(charts) + place + 1)
                _chart(figure, position, f"{title}, {source}", [table.columns[i].title for i in columns], order, values)
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        title = f"error (%) on {table.definition.split}, inner is better"
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), title=title)
        return save(figure, path)


def _published(table: PaperTable) -> dict[str, dict[str, float]]:
    found = {
        row.definition.label: {title: cell.paper.value for title, cell in row.cells.items() if cell.paper is not None}
        for row in table.rows
    }
    return {label: values for label, values in found.items() if values}


def _ours(table: PaperTable) -> dict[str, dict[str, float]]:
    found = {
        row.definition.label: {title: cell.ours.mean for title, cell in row.cells.items() if cell.ours is not None}
        for row in table.rows
    }
    return {label: values for label, values in found.items() if values}


def _chart(
    figure: "Figure",
    position: tuple[int, int, int],
    title: str,
    columns: Sequence[str],
    rows: Sequence[PaperRow],
    values: Mapping[str, Mapping[str, float]],
) -> None:
    axes: Any = figure.add_subplot(*position, projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    angles = [2 * math.pi * (i + 0.5) / len(columns) for i in range(len(columns))]
    drawn = [row for row in rows if row.definition.label in values]
    styles = method_styles([row.definition.label for row in rows if not row.definition.is_single_task])
    for row in drawn:
        number = rows.index(row)
        known = values[row.definition.label]
        radii = [known.get(column, math.nan) for column in columns]
        color, marker = styles.get(row.definition.label, ("black", "*"))
        axes.plot(
            [*angles, angles[0]],
            [*radii, radii[0]],
            color=color,
            marker=marker,
            markersize=3.5,
            linewidth=1.1,
            linestyle=DASHES[number % len(DASHES)],
            label=row.definition.label.replace("single_task", "single task"),
        )
    axes.set_ylim(0, None)
    axes.set_xticks(angles, [""] * len(angles))
    top = axes.get_ylim()[1]
    for angle, column in zip(angles, columns, strict=True):
        degrees = 90 - math.degrees(angle)
        flip = degrees < -90
        axes.text(
            angle,
            top * 1.03,
            column.replace("_", " "),
            rotation=degrees + 180 if flip else degrees,
            rotation_mode="anchor",
            ha="right" if flip else "left",
            va="center",
            fontsize=7,
        )
    axes.tick_params(axis="y", labelsize=7, labelcolor=GREY)
    axes.set_rlabel_position(0)
    axes.set_title(title, fontsize=10, fontweight="bold", loc="center", pad=68)
