"""Step time and peak memory against the numbers of tasks, parameters, samples and groups; one strategy a family."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import steps
from bench.memory import highest
from bench.problem import Setting, attributes, prepare
from bench.report import Machine, line, reading
from bench.section import apart
from bench.timing import measure, set_clock

OUT = "docs/results/scaling.md"
BASE = Setting(
    "ResNet-18 of width 16",
    ("dataset=celeba", "dataset.size=[32,32]", "backbone=resnet18_cifar", "backbone.width=16", "heads=linear"),
    16,
    attributes,
    tasks=8,
)
FAMILIES = {
    "uniform": "uniform (loss weighting)",
    "mgda": "mgda, exact (Gramian)",
    "mgda gramian=ghost": "mgda, ghost",
    "mgda_ub": "mgda_ub (features)",
    "igd_per_task": "igd_per_task (sequential, the whole batch)",
    "mao": "mao (simultaneous)",
}
ROUNDS, CALLS, LIMIT = 5, 2, 240.0


@dataclass(frozen=True)
class Axis:
    """One quantity, all others as in `BASE`.

    Attributes:
        name: For file names.
        label: For people.
        points: Its values -> setting.
        strategies: Strategy at a value, by its name in the figure.
    """

    name: str
    label: str
    points: Mapping[int, Setting]
    strategies: Mapping[str, str]


def _width(width: int) -> Setting:
    return replace(BASE, overrides=(*BASE.overrides, f"backbone.width={width}"))


WIDTHS = {8: 175_000, 16: 700_000, 32: 2_800_000, 64: 11_170_000}
"""Width -> about so many shared parameters."""
GROUP_SIZES = {1: 16, 2: 8, 4: 4, 8: 2, 16: 1}
"""Number of groups -> their size."""
AXES = (
    Axis("tasks", "tasks m", {m: replace(BASE, tasks=m) for m in (2, 5, 10, 20, 40, 80)}, FAMILIES),
    Axis("parameters", "shared parameters n", {n: _width(width) for width, n in WIDTHS.items()}, FAMILIES),
    Axis("batch", "samples in a batch", {b: replace(BASE, batch_size=b) for b in (4, 16, 64, 256)}, FAMILIES),
    Axis(
        "groups",
        "groups (16 tasks, random_groups)",
        {count: replace(BASE, tasks=16) for count in GROUP_SIZES},
        {"random_groups": "random_groups", "random_groups optimizer_state=shared": "random_groups, one optimizer"},
    ),
)


def _text(axis: Axis, strategy: str, point: int) -> str:
    return f"{strategy} grouping.group_size={GROUP_SIZES[point]}" if axis.name == "groups" else strategy


def _step(setting: Setting, text: str) -> steps.Contender:
    """Of the whole batch: of a sequential strategy all its optimizer steps."""
    return steps.whole(setting, text, CALLS)


def times(position: int, threads: int, clock: str) -> dict[tuple[str, int], float]:
    """Median seconds of a step of every strategy at every point of an axis, interleaved."""
    set_clock(clock)
    prepare(threads)
    axis = AXES[position]
    contenders = {
        f"{strategy}|{point}": _step(setting, _text(axis, strategy, point))
        for strategy in axis.strategies
        for point, setting in axis.points.items()
    }
    measured = measure(contenders, ROUNDS, 1, LIMIT, axis.name)
    found = {}
    for name, values in measured.items():
        strategy, _, point = name.partition("|")
        found[strategy, int(point)] = statistics.median(value for value in values if value is not None)
    return found


def memory(position: int, strategy: str, point: int, threads: int) -> int:
    """Peak bytes of two steps."""
    axis = AXES[position]
    return highest(partial(_step, axis.points[point], _text(axis, strategy, point)), 2, threads)


def exponents(points: list[int], values: list[float]) -> str:
    """Slopes in the doubly logarithmic plane from point to point: 1 on a straight line through the origin."""
    from math import log

    pairs = zip(points, points[1:], values, values[1:], strict=False)
    return ", ".join(f"{log(after / before) / log(right / left):.2f}" for left, right, before, after in pairs)


def main(out: Path, machine: Machine, clock: str) -> None:
    """Measure, draw, write."""
    command = f"python scripts/benchmark.py only=scaling threads={machine.threads} clock={clock}"
    lines = ["# Scaling", "", *machine.facts(command), f"- clock: {clock}", ""]
    lines += [HEAD, ""]
    for position, axis in enumerate(AXES):
        seconds = apart(times, position, machine.threads, clock)
        peaks = {
            (strategy, point): apart(memory, position, strategy, point, machine.threads)
            for strategy in axis.strategies
            for point in axis.points
        }
        figure = out.with_name(f"{out.stem}-{axis.name}.png")
        draw(axis, seconds, peaks, figure)
        points = list(axis.points)
        lines += [f"## {axis.label[0].upper()}{axis.label[1:]}", "", f"![Step time and memory]({figure.name})", ""]
        lines += [
            line(["", *(f"{point:,}" for point in points), "slopes"]),
            line([":--", *["--:"] * (len(points) + 1)]),
        ]
        for strategy, label in axis.strategies.items():
            for what, found, scale, unit in (("time", seconds, 1e3, "ms"), ("memory", peaks, 1e-6, "MB")):
                values = [found[strategy, point] for point in points]
                cells = [f"{value * scale:.0f} {unit}" for value in values]
                lines.append(line([f"{label}: {what}", *cells, exponents(points, values)]))
        lines += ["", reading("scaling", axis.name), ""]
    out.write_text("\n".join(lines), encoding="utf-8")


def draw(
    axis: Axis, seconds: Mapping[tuple[str, int], float], peaks: Mapping[tuple[str, int], int], path: Path
) -> None:
    """Time and memory over the axis, each with the straight line through the first point."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, sides = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    points = list(axis.points)
    for side, found, scale, label in ((sides[0], seconds, 1e3, "ms a step"), (sides[1], peaks, 1e-6, "MB at most")):
        for strategy, name in axis.strategies.items():
            values = [found[strategy, point] * scale for point in points]
            (curve,) = side.plot(points, values, marker="o", label=name)
            guide = [values[0] * point / points[0] for point in points]
            side.plot(points, guide, linewidth=0.6, linestyle=":", color=curve.get_color())
        side.set(xscale="log", yscale="log", xlabel=axis.label, ylabel=label)
        side.set_xticks(points, [f"{point:,}" for point in points])
        side.minorticks_off()
        side.set_ylim(top=2 * max(max(found.values()) * scale, 1e-9))
        side.grid(visible=True, alpha=0.2)
    sides[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


HEAD = """\
ResNet-18 for small images at 32x32 (`backbone=resnet18_cifar`), width 16 (0.7 million shared parameters), batch 16, 8
binary tasks with linear heads, Adam; one of these numbers is varied at a time. Time: the whole `Strategy.step` of a
batch, median of interleaved rounds. Memory: largest resident memory while a process builds the network and makes two
steps, beyond what it held after its imports. Slopes: from point to point in the doubly logarithmic plane; 1 is
proportional, 0 is constant. Dotted: proportional to the first point."""
