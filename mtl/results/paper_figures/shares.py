"""Share of each task in the updates of the shared layers (Hervella et al. 2024): over steps, and over layers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_figures.traces import Trace, draw_curve, handles_of, seeds_text, traces
from mtl.results.runs import Method
from mtl.results.statistics import mean
from mtl.results.styles import method_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY = "update_share"
LAYERS = 5
NAMED = 8
"""Up to so many layers are named on an axis; beyond, they are numbered."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))


def shares_by_step(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """A row of panels a method, a column a layer (at most five, evenly spread): share of each task against the step."""
    found = traces(methods, definition.name, KEY)
    layers = _spread(_layers(found[0]), LAYERS)
    tasks = found[0].tasks
    styles = method_styles(tasks)
    with canvas(2.1 * len(layers) + 1.4, 1.75 * len(found) + 0.5) as figure:
        panels = figure.subplots(len(found), len(layers), squeeze=False, sharex=True, sharey=True)
        for row, trace in zip(panels, found, strict=True):
            for axes, layer in zip(row, layers, strict=True):
                for number, task in enumerate(tasks):
                    curve = trace.curve(_share(layer, task))
                    draw_curve(axes, curve, task, *styles[task], DASHES[number % len(DASHES)])
                _ideal(axes, len(tasks))
            row[0].set_ylabel(f"{trace.label}\nshare", fontsize=8)
        for axes, layer in zip(panels[0], layers, strict=True):
            axes.set_title(_short(layer), fontsize=8, fontweight="bold")
        for axes in panels[-1]:
            axes.set_xlabel("step (batch)")
        _legend(figure, list(panels.flat), found)
        return save(figure, path)


def shares_by_layer(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """A panel a method: share of each task in each shared layer, averaged over steps, from input to output."""
    found = traces(methods, definition.name, KEY)
    layers, tasks = _layers(found[0]), found[0].tasks
    styles = method_styles(tasks)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with canvas(3.0 * columns + 1.6, 2.5 * rows + 0.6) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for axes, trace in zip(panels.flat, found, strict=False):
            for number, task in enumerate(tasks):
                values = [_over_steps(trace, layer, task) for layer in layers]
                curve = {place: one for place, one in enumerate(values, start=1) if one}
                draw_curve(axes, curve, task, *styles[task], DASHES[number % len(DASHES)])
            _ideal(axes, len(tasks))
            axes.set_title(trace.label, fontsize=9, fontweight="bold")
            if len(layers) <= NAMED:
                names = [_short(layer) for layer in layers]
                axes.set_xticks(range(1, len(layers) + 1), names, rotation=45, ha="right", fontsize=7)
            else:
                axes.set_xlabel(f"shared layer (1 to {len(layers)}, input to output)")
        for row in panels:
            row[0].set_ylabel("share, mean over steps")
        _legend(figure, list(panels.flat), found)
        return save(figure, path)


def _share(layer: str, task: str) -> Callable[[Any], float | None]:
    return lambda record: record.get(layer, {}).get(task)


def _layers(trace: Trace) -> list[str]:
    """Layers in the order of the record, which is that of the network."""
    return list(dict.fromkeys(layer for records in trace.records for record in records.values() for layer in record))


def _over_steps(trace: Trace, layer: str, task: str) -> list[float]:
    """Mean over the steps of each run."""
    means = []
    for records in trace.records:
        values = [record[layer][task] for record in records.values() if record.get(layer, {}).get(task) is not None]
        if values:
            means.append(mean(values))
    return means


def _spread(layers: Sequence[str], count: int) -> list[str]:
    if len(layers) <= count:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (count - 1))] for i in range(count)]


def _short(layer: str) -> str:
    """The last three parts of a module's name."""
    return ".".join(layer.split(".")[-3:])


def _ideal(axes: "Axes", num_tasks: int) -> None:
    axes.axhline(1 / num_tasks, color=GREY, linewidth=0.9, linestyle=(0, (1, 1)), label="equal shares, 1/m", zorder=1)
    axes.set_ylim(0, 1)
    axes.margins(x=0.03)


def _legend(figure: Any, panels: Sequence["Axes"], found: Sequence[Trace]) -> None:
    entries = handles_of(panels)
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=len(entries), title=seeds_text(found))
