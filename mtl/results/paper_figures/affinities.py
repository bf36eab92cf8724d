"""Affinities between tasks while training goes on (Jeong and Yoon 2025)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.errors import UserError
from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_figures.traces import Trace, draw_curve, handles_of, seeds_text, traces
from mtl.results.runs import Method, Run
from mtl.results.statistics import mean
from mtl.results.styles import method_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY = "affinity"
MAPS = 4
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))


def affinity_curves(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """A row of panels a method, a column a target task: affinity of every other task to it against the step."""
    found = traces(methods, definition.name, KEY)
    tasks = found[0].tasks
    styles = method_styles(tasks)
    with canvas(2.7 * len(tasks) + 0.6, 2.0 * len(found) + 0.6) as figure:
        panels = figure.subplots(len(found), len(tasks), squeeze=False, sharex=True, sharey="row")
        for row, trace in zip(panels, found, strict=True):
            for target, axes in enumerate(row):
                for source, name in enumerate(tasks):
                    if source != target:
                        curve = trace.curve(_entry(source, target))
                        draw_curve(axes, curve, f"{name} (source)", *styles[name], DASHES[source % len(DASHES)])
                _zero(axes)
            row[0].set_ylabel(f"{trace.label}\naffinity", fontsize=8)
        for axes, task in zip(panels[0], tasks, strict=True):
            axes.set_title(f"on {task}", fontsize=9, fontweight="bold")
        for axes in panels[-1]:
            axes.set_xlabel("step (batch)")
        entries = handles_of(list(panels.flat))
        figure.legend(
            entries.values(), entries, loc="outside lower center", ncols=len(entries), title=seeds_text(found)
        )
        return save(figure, path)


def affinity_maps(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """A row of heat maps a method, at four steps evenly spread: source (row) to target (column), mean over seeds."""
    found = traces(methods, definition.name, KEY)
    tasks = found[0].tasks
    size = 0.55 * len(tasks) + 0.45
    with canvas(MAPS * size + 2.4, len(found) * (size + 0.3) + 1.3) as figure:
        panels = figure.subplots(len(found), MAPS, squeeze=False)
        for number, (row, trace) in enumerate(zip(panels, found, strict=True), start=1):
            steps = _spread(sorted(set.intersection(*(set(records) for records in trace.records))))
            maps = {step: _matrix(trace, step) for step in steps}
            off = [abs(v) for one in maps.values() for i, line in enumerate(one) for j, v in enumerate(line) if i != j]
            limit = max((value for value in off if math.isfinite(value)), default=1.0) or 1.0
            for axes in row[len(steps) :]:
                axes.set_visible(False)
            for axes, (step, matrix) in zip(row, maps.items(), strict=False):
                image = axes.imshow(matrix, cmap="PuOr", vmin=-limit, vmax=limit)
                for i, line in enumerate(matrix):
                    for j, value in enumerate(line):
                        _number(axes, i, j, value, limit)
                axes.grid(visible=False)
                axes.set_title(f"step {step}", fontsize=8)
                named = tasks if number == len(found) else [""] * len(tasks)
                axes.set_xticks(range(len(tasks)), named, rotation=45, ha="right", fontsize=7)
                axes.set_yticks(range(len(tasks)), tasks if axes is row[0] else [""] * len(tasks), fontsize=7)
            row[0].set_ylabel(f"{trace.label}\nsource", fontsize=8)
            bar = figure.colorbar(image, ax=list(row), shrink=0.8, aspect=12, pad=0.02)
            bar.ax.tick_params(labelsize=7)
            bar.set_label("affinity", fontsize=8)
        figure.supxlabel("target", fontsize=8)
        return save(figure, path)


def affinity_by_option(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """Small multiples, source (row) on target (column): one line for each value of an option of the strategy.

    Options: `option`, dotted, below `strategy` (`grouping.decay_rate`).

    Raises:
        UserError: All runs have the same value, so nothing can be compared.
    """
    option = str(definition.options["option"])
    found = traces(methods, definition.name, KEY)
    values = {trace.label: _option(trace.runs[0], option) for trace in found}
    known = {label: value for label, value in values.items() if value is not None}
    if len(set(known.values())) < 2:
        shown = ", ".join(sorted({str(value) for value in known.values()})) or "no value at all"
        raise UserError(
            f"Figure {definition.name} compares runs that differ in strategy.{option}. Found {shown}. Run the others: "
            f"`strategy.{option}=...`."
        )
    shown_traces = sorted((trace for trace in found if trace.label in known), key=lambda one: known[one.label])
    names = [_name(trace, known, option) for trace in shown_traces]
    styles = method_styles(names)
    tasks = found[0].tasks
    size = len(tasks)
    with canvas(2.2 * size + 0.6, 1.6 * size + 0.9) as figure:
        panels = figure.subplots(size, size, squeeze=False, sharex=True, sharey=True)
        for source, row in enumerate(panels):
            for target, axes in enumerate(row):
                if source == target:
                    axes.set_axis_off()
                    axes.text(0.5, 0.5, tasks[source], transform=axes.transAxes, ha="center", fontweight="bold")
                    continue
                for number, (trace, name) in enumerate(zip(shown_traces, names, strict=True)):
                    curve = trace.curve(_entry(source, target))
                    draw_curve(axes, curve, name, *styles[name], DASHES[number % len(DASHES)])
                _zero(axes)
                axes.set_title(f"{tasks[source]} on {tasks[target]}", fontsize=7.5)
        figure.supylabel("affinity", fontsize=9)
        figure.supxlabel("step (batch)", fontsize=9)
        entries = handles_of(list(panels.flat))
        figure.legend(
            entries.values(), entries, loc="outside upper center", ncols=len(entries), title=seeds_text(shown_traces)
        )
        return save(figure, path)


def _entry(source: int, target: int) -> Callable[[Any], float | None]:
    return lambda matrix: matrix[source][target]


def _matrix(trace: Trace, step: int) -> list[list[float]]:
    size = len(trace.tasks)
    cells = [[[records[step][i][j] for records in trace.records] for j in range(size)] for i in range(size)]
    return [[math.nan if None in cell else mean(cell) for cell in line] for line in cells]


def _spread(steps: Sequence[int]) -> list[int]:
    if len(steps) <= MAPS:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (MAPS - 1))] for i in range(MAPS)]


def _number(axes: "Axes", i: int, j: int, value: float, limit: float) -> None:
    if math.isfinite(value):
        color = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=6.5, color=color)


def _option(run: Run, option: str) -> Any:
    node: Any = run.options.get("strategy", {})
    for part in option.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _name(trace: Trace, values: dict[str, Any], option: str) -> str:
    name = f"{option.rpartition('.')[2].replace('_', ' ')} {values[trace.label]}"
    twice = sum(value == values[trace.label] for value in values.values()) > 1
    return f"{name}, {trace.label}" if twice else name


def _zero(axes: "Axes") -> None:
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    axes.margins(x=0.03)
