"""Figures for papers: PNG at 300 dpi and PDF, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.errors import UserError
from mtl.results.comparison import Column, Comparison, Row
from mtl.results.drawing import GREY, canvas, save
from mtl.results.methods import group_methods
from mtl.results.runs import SINGLE_TASK, Method, Run
from mtl.results.statistics import mean, sample_sd
from mtl.results.styles import UNITS, method_styles
from mtl.results.tables import compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scatter_two_tasks(source: Comparison | Sequence[Run], path: Path, metric: str = "accuracy") -> tuple[Path, Path]:
    """One task against the other, as Figure 3 of Sener and Koltun (2018): each seed, mean and sd of each method.

    Args:
        source: A comparison, or the runs to compare.
        path: Where to write; `.png` and `.pdf` stand for their suffix.
        metric: A metric that both tasks have, in its own unit (accuracy: percent).

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        UserError: There are not exactly two tasks, or they do not share `metric`.
    """
    comparison = source if isinstance(source, Comparison) else compare(source)
    x, y = _two_columns(comparison, metric)
    rows = [
        row for row in comparison.rows if not row.method.runs[0].is_single_task and x in row.values and y in row.values
    ]
    baselines = [row for row in comparison.rows if row.method.is_baseline]
    styles = method_styles([row.label for row in comparison.rows if not row.method.is_baseline])
    with canvas(6.4, 4.2) as figure:
        axes = figure.add_subplot()
        for row in baselines:
            _draw_baseline(axes, row, x, y)
        for row in rows:
            _draw_method(axes, row, x, y, *styles[row.label])
        axes.margins(0.07)
        axes.set_xlabel(_axis_label(x, comparison.split))
        axes.set_ylabel(_axis_label(y, comparison.split))
        better = f"{'top' if y.higher_is_better else 'bottom'} {'right' if x.higher_is_better else 'left'} is better"
        axes.set_title(f"{x.task} against {y.task}", fontsize=10, fontweight="bold")
        axes.set_title(better, loc="right", fontsize=9, fontstyle="italic", color=GREY)
        count = sorted({len(row.seeds) for row in rows})
        title = f"mean ± sd, seeds: {' to '.join(map(str, count[:1] + count[1:][-1:]))}" if count else None
        figure.legend(loc="outside right upper", title=title, alignment="left", labelspacing=0.7)
        return save(figure, path)


def learning_curves(runs: Sequence[Run], path: Path, split: str = "val") -> tuple[Path, Path]:
    """The primary metric of each task over the epochs: mean over completed runs with a band of one sd.

    Args:
        runs: The runs; diverged and failed ones are counted in the legend, not averaged.
        path: Where to write; `.png` and `.pdf` stand for their suffix.
        split: Split whose evaluations are drawn.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        UserError: No completed run was evaluated on `split`.
    """
    methods = group_methods(runs)
    styles = method_styles([method.label for method in methods if not method.is_baseline])
    primary = {
        task: (name, info.higher_is_better)
        for run in sorted(runs, key=lambda run: (-run.num_tasks, str(run.path)))
        for task, metrics in run.tasks.items()
        for name, info in metrics.items()
        if info.primary
    }
    curves = {method.label: _curves(method, primary, split) for method in methods}
    if not any(any(tasks.values()) for tasks in curves.values()):
        raise UserError(f"No completed run was evaluated on split {split!r}. Name a split that `metrics.jsonl` has.")
    with canvas(3.3 * len(primary) + 1.8, 3.2) as figure:
        panels = figure.subplots(1, len(primary), squeeze=False)[0]
        for axes, (task, (metric, higher)) in zip(panels, primary.items(), strict=True):
            for method in methods:
                color, marker = (GREY, "") if method.is_baseline else styles[method.label]
                _draw_curve(axes, curves[method.label][task], _curve_label(method), color, marker)
            axes.set_title(task, fontsize=10, fontweight="bold")
            axes.set_xlabel("epoch")
            axes.set_ylabel(_axis_label(Column(task, metric, higher, True), split))
            axes.margins(x=0.02)
            _focus(axes, [curves[method.label][task] for method in methods])
        entries = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(entries.values()), list(entries), loc="outside right upper", title="mean ± sd", alignment="left"
        )
        return save(figure, path)


def common_primary_metric(comparison: Comparison) -> str | None:
    """The primary metric of both tasks, if there are two tasks and it is one and the same."""
    primary = [column for column in comparison.columns if column.primary]
    tasks = {column.task for column in comparison.columns}
    same = {column.metric for column in primary}
    return primary[0].metric if len(tasks) == len(primary) == 2 and len(same) == 1 else None


def _two_columns(comparison: Comparison, metric: str) -> tuple[Column, Column]:
    tasks = list(dict.fromkeys(column.task for column in comparison.columns))
    if len(tasks) != 2:
        raise UserError(
            f"The scatter needs exactly two tasks. Found {len(tasks)}: {', '.join(tasks)}. "
            "Use `learning_curves` or the table, or compare runs of two tasks."
        )
    found = [column for column in comparison.columns if column.metric == metric]
    if len(found) != 2:
        names = sorted({f"{column.task}/{column.metric}" for column in comparison.columns})
        raise UserError(
            f"The scatter needs a metric that both tasks have. Found `{metric}`; there are {', '.join(names)}."
        )
    return found[0], found[1]


def _draw_baseline(axes: "Axes", row: Row, x: Column, y: Column) -> None:
    """Single-task values as dashed lines, with a star where they cross."""
    style: dict[str, Any] = {"color": GREY, "linestyle": (0, (5, 3)), "linewidth": 1.0, "zorder": 1}
    if x in row.values:
        axes.axvline(row.values[x].mean, **style)
    if y in row.values:
        axes.axhline(row.values[y].mean, **style)
    if x in row.values and y in row.values:
        point = ([row.values[x].mean], [row.values[y].mean])
        axes.plot(
            *point, "*", color="white", markeredgecolor="black", markersize=14, zorder=3, label=_curve_label(row.method)
        )


def _draw_method(axes: "Axes", row: Row, x: Column, y: Column, color: str, marker: str) -> None:
    pairs = [(values[x], values[y]) for values in row.per_seed.values() if x in values and y in values]
    axes.plot(*zip(*pairs, strict=True), linestyle="", marker=".", markersize=5, color=color, alpha=0.6, zorder=2)
    centre = [row.values[x].mean], [row.values[y].mean]
    spread: dict[str, Any] = {"xerr": row.values[x].sd, "yerr": row.values[y].sd}
    axes.errorbar(*centre, **spread, fmt="none", ecolor=color, elinewidth=1.0, zorder=3)
    style: dict[str, Any] = {"color": color, "markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.8}
    axes.plot(*centre, linestyle="", marker=marker, **style, zorder=4, label=_curve_label(row.method))


def _draw_curve(axes: "Axes", curve: Mapping[int, Sequence[float]], label: str, color: str, marker: str) -> None:
    if not curve:
        return
    epochs = sorted(curve)
    centre = [mean(curve[epoch]) for epoch in epochs]
    spread = [sample_sd(curve[epoch]) or 0.0 for epoch in epochs]
    dashes = "-" if marker else (0, (5, 3))
    every = max(1, len(epochs) // 8)
    axes.plot(
        epochs,
        centre,
        color=color,
        linestyle=dashes,
        marker=marker,
        markevery=every,
        markersize=4,
        linewidth=1.2,
        label=label,
    )
    low, high = ([c + sign * s for c, s in zip(centre, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(epochs, low, high, color=color, alpha=0.12, linewidth=0)


def _focus(axes: "Axes", curves: Sequence[Mapping[int, Sequence[float]]]) -> None:
    """Leave the steep first fifth of the epochs out of the y range, and say so."""
    epochs = sorted({epoch for curve in curves for epoch in curve})
    if len(epochs) < 10:
        return
    start = epochs[len(epochs) // 5]
    values = [v for curve in curves for epoch, same in curve.items() if epoch >= start for v in same if v == v]
    if values and max(values) > min(values):
        room = 0.05 * (max(values) - min(values))
        axes.set_ylim(min(values) - room, max(values) + room)
        axes.set_title(f"y range: from epoch {start}", loc="right", fontsize=8, fontstyle="italic", color=GREY)


def _curves(method: Method, primary: Mapping[str, tuple[str, bool]], split: str) -> dict[str, dict[int, list[float]]]:
    """Task -> epoch -> value of each completed run; of an epoch recorded twice (resumed runs), the later record."""
    curves: dict[str, dict[int, list[float]]] = {task: {} for task in primary}
    for run in method.completed:
        seen = {event["epoch"]: event["metrics"].get(split, {}) for event in run.events("evaluation")}
        for epoch, tasks in seen.items():
            for task, (metric, _) in primary.items():
                value = tasks.get(task, {}).get(metric)
                if value is not None:
                    curves[task].setdefault(epoch, []).append(float(value))
    return curves


def _curve_label(method: Method) -> str:
    lost = len(method.runs) - len(method.completed)
    label = method.label.replace(SINGLE_TASK, "single task")
    return f"{label} ({lost} not completed)" if lost else label


def _axis_label(column: Column, split: str) -> str:
    unit = f" ({UNITS[column.metric]})" if column.metric in UNITS else ""
    return f"{column.task}: {split} {column.metric}{unit}"
