"""Number of groups of tasks over the iterations (Jeong and Yoon 2025)."""

from collections.abc import Sequence
from pathlib import Path

from mtl.results.drawing import GREY, canvas, save
from mtl.results.paper_figures.definition import FigureDefinition
from mtl.results.paper_figures.traces import draw_curve, seeds_text, styles_of, traces
from mtl.results.runs import Method
from mtl.results.statistics import mean

SETTINGS = "a strategy that groups tasks (selective_groups, random_groups); tracking.log_every_steps=20 sets how often"


def group_counts(methods: Sequence[Method], definition: FigureDefinition, path: Path) -> tuple[Path, Path]:
    """One line a method, a moving mean over `window` records (an option; 1 shows every count)."""
    window = int(definition.options.get("window", 1))
    found = traces(methods, definition.name, "groups", SETTINGS, event="step")
    styles = styles_of(found)
    tasks = len(found[0].tasks)
    with canvas(6.4, 3.4) as figure:
        axes = figure.add_subplot()
        for trace in found:
            curve = trace.curve(lambda groups: float(len(groups)))
            draw_curve(axes, _smooth(curve, window), trace.label, *styles[trace.label])
        axes.set_ylim(0.8, tasks + 0.2)
        axes.set_yticks(range(1, tasks + 1))
        axes.set_xlabel("step (batch)")
        axes.set_ylabel(f"number of groups of {tasks} tasks")
        if window > 1:
            axes.set_title(f"moving mean of {window} records", loc="right", fontsize=9, fontstyle="italic", color=GREY)
        figure.legend(loc="outside right upper", title=seeds_text(found), alignment="left")
        return save(figure, path)


def _smooth(curve: dict[int, list[float]], window: int) -> dict[int, list[float]]:
    """Of each run the mean of the last `window` values, at the steps that have so many."""
    steps = list(curve)
    width = min(window, len(steps))
    return {
        steps[end]: [mean(values) for values in zip(*(curve[s] for s in steps[end + 1 - width : end + 1]), strict=True)]
        for end in range(width - 1, len(steps))
    }
