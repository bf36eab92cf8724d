"""How far the shared parameters travel, and how far they get (Pascal et al. 2021, --trace_param of their code)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.results.drawing import canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_figures.traces import EVERY, draw_curve, handles_of, seeds_text, styles_of, traces
from mtl.results.runs import Method

SETTINGS = f"{EVERY} tracking.diagnostics.path=true"


def _ratio(record: Mapping[str, Any]) -> float | None:
    return record["path_length"] / record["displacement"] if record["displacement"] else None


PANELS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "path length": lambda record: record["path_length"],
    "net displacement": lambda record: record["displacement"],
    "path / displacement": _ratio,
}


def exploration(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """Path length, net displacement and their ratio against the step, one line a method."""
    found = traces(methods, definition.name, ("path_length", "displacement"), SETTINGS)
    styles = styles_of(found)
    with canvas(3.0 * len(PANELS) + 1.8, 3.1) as figure:
        panels = figure.subplots(1, len(PANELS))
        for axes, (title, value) in zip(panels, PANELS.items(), strict=True):
            for trace in found:
                draw_curve(axes, trace.curve(value), trace.label, *styles[trace.label])
            axes.set_title(title, fontsize=10, fontweight="bold")
            axes.set_xlabel("step (batch)")
            axes.set_ylim(0, None)
            axes.margins(x=0.02)
        panels[0].set_ylabel("L2 norm, shared parameters")
        entries = handles_of(panels)
        figure.legend(entries.values(), entries, loc="outside right upper", title=seeds_text(found), alignment="left")
        return save(figure, path)
