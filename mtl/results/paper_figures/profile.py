"""Projections of a profile of three tasks, as Figure 4 of Sener and Koltun (2018)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures import points as point
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_table import PaperRow, PaperTable


def profile(table: PaperTable, definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """Every pair of three axes: ours filled, the published values hollow, top right better in all.

    Options: `axes`, a list of `{column, label, of, divisor}`: `of` is `value`, `reciprocal` or `one_minus`, after
    division by `divisor`; `grid.parameter` as in `front`.
    """
    axes_of: Sequence[Mapping[str, Any]] = definition.options["axes"]
    parameter = (definition.options.get("grid") or {}).get("parameter")
    styles = point.styles(table, parameter)
    drawn = [row for row in table.rows if _ours(row, axes_of) or _published(row, axes_of)]
    if not drawn:
        raise UserError(
            f"Figure {definition.name}: table {table.definition.name} has neither runs nor published values. "
            "`plan=true` prints the commands that make its runs."
        )
    pairs = list(itertools.combinations(range(len(axes_of)), 2))
    hollow = any(_published(row, axes_of) for row in drawn)
    with canvas(3.1 * len(pairs) + 2.1, 3.4) as figure:
        panels = figure.subplots(1, len(pairs), squeeze=False)[0]
        for axes, (i, j) in zip(panels, pairs, strict=True):
            for row in drawn:
                part = point.is_part(row, parameter)
                ours, published = _ours(row, axes_of), _published(row, axes_of)
                style = ("black", "x") if part else styles.get(row.definition.label, (GREY, "*"))
                label = "static weights" if part else point.name(row)
                if ours and part:
                    centre = [[sum(v[k] for v in ours.values()) / len(ours)] for k in (i, j)]
                    axes.plot(*centre, linestyle="", marker="x", color="black", markersize=5, label=label)
                elif ours:
                    point.draw_point(axes, {seed: (v[i], v[j]) for seed, v in ours.items()}, label, *style)
                if published:
                    if not ours:
                        axes.plot([], [], linestyle="", marker=style[1], color=style[0], fillstyle="none", label=label)
                    point.draw_hollow(axes, (published[i], published[j]), *style)
            if hollow:
                point.explain_hollow(axes)
            axes.margins(0.12)
            axes.set_xlabel(axes_of[i]["label"])
            axes.set_ylabel(axes_of[j]["label"])
            axes.locator_params(nbins=5)
        panels[-1].set_title("top right is better", loc="right", fontsize=9, fontstyle="italic", color=GREY)
        handles = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        title = "mean ± sd over seeds" if any(_ours(row, axes_of) for row in drawn) else None
        place: dict[str, Any] = {"loc": "outside right upper", "alignment": "left", "labelspacing": 0.7}
        figure.legend(handles.values(), handles, title=title, **place)
        return save(figure, path)


def _ours(row: PaperRow, axes: Sequence[Mapping[str, Any]]) -> dict[int, list[float]]:
    titles = [axis["column"] for axis in axes]
    return {
        seed: [_shown(values[axis["column"]], axis) for axis in axes]
        for seed, values in row.per_seed.items()
        if all(title in values for title in titles)
    }


def _published(row: PaperRow, axes: Sequence[Mapping[str, Any]]) -> list[float]:
    papers = [(row.cells[axis["column"]].paper, axis) for axis in axes]
    values = [_shown(paper.value, axis) for paper, axis in papers if paper is not None]
    return values if len(values) == len(axes) else []


def _shown(value: float, axis: Mapping[str, Any]) -> float:
    scaled = value / float(axis.get("divisor", 1))
    if axis["of"] == "reciprocal":
        return 1 / scaled if scaled else math.nan
    return 1 - scaled if axis["of"] == "one_minus" else scaled
