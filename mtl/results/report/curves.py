"""The sections with lines over training: learning curves, task weights, conflicts."""

from collections.abc import Collection, Sequence

from markupsafe import Markup

from mtl.results.report.lines import aligned, legend, line_chart
from mtl.results.report.markup import tag
from mtl.results.report.material import Look, Material, Section, unit
from mtl.results.report.numbers import listed, significant
from mtl.results.report.record import Record
from mtl.results.report.series import Series

SHOWN = 6
"""Charts that stand open; more are behind a button."""
SCALARS = {
    "mean_cosine": ("Cosine of task gradients", "mean over pairs; below 0 is conflict", False),
    "conflict_rate": ("Pairs in conflict", "%, cosine below 0", False),
    "norm_ratio": ("Largest over smallest gradient norm", "log scale, geometric mean; 1: equally long", True),
    "own_norm_ratio": (
        "Largest over smallest gradient norm",
        "at the method's own level, log scale; 1: equally long",
        True,
    ),
    "magnitude_similarity": ("Magnitude similarity", "mean over pairs; 1: equally long", False),
    "condition_number": ("Condition number", "of the matrix of gradients, log scale", True),
    "angle_to_uniform": ("Angle to the plain sum", "degrees between the update and that of summed losses", False),
    "update_norm": ("Length of the update", "shared parameters, log scale", True),
    "path_ratio": ("Path over displacement", "shared parameters; 1: straight, large: wandering", False),
}
"""Diagnostic -> title, unit, whether it is logarithmic."""
CONSTANT = 1e-6
"""Largest change of a share of weight that counts as none."""


def curves_section(material: Material) -> Section | None:
    """Primary metric of each task over epochs."""
    infos = {column.task: column for column in material.comparison.columns if column.primary}
    charts: list[Markup] = []
    drawn: set[str] = set()
    for task, column in infos.items():
        series = {label: record.curves.get(task, ()) for label, record in material.records.items()}
        lines = aligned(material.looks, series)
        if any(len(one) > 1 for _, one in lines):
            arrow = "↑" if column.higher_is_better else "↓"
            subtitle = f"{material.curve_split} {column.metric}{unit(column.metric)} {arrow}"
            charts.append(line_chart(task, lines, "epoch", subtitle=subtitle, focus=True))
            drawn |= {look.label for look, _ in lines}
    if not charts:
        return None
    aid = (
        f"Split {material.curve_split}: line, mean over completed runs; band, one standard deviation over seeds. "
        "Point at a chart, or focus it and use the arrow keys, to read values."
    )
    return _section("curves", "Learning curves", aid, charts, _looks(material, drawn))


def weights_section(material: Material) -> Section | None:
    """Share of each task in the task weights, for methods whose weights move."""
    moving = {label: r for label, r in material.records.items() if r.weights and not _constant(r)}
    still = {label: r for label, r in material.records.items() if r.weights and _constant(r)}
    if not moving:
        return None
    highest = max(p.mean + (p.sd or 0) for r in moving.values() for series in r.weights.values() for p in series)
    limits = (0.0, min(1.0, 1.05 * highest))
    charts = []
    for task in material.tasks:
        series = {label: record.weights.get(task, ()) for label, record in moving.items()}
        lines = aligned(material.looks, series)
        if lines:
            charts.append(line_chart(task, lines, "step", subtitle="share of the weights", limits=limits))
    aid = (
        "Weight of a task over the sum of all weights, mean over stretches of steps and over seeds. Sizes of the "
        "weights themselves differ between methods and are left out; they are in the runs' records."
    )
    words = [
        f"{label} ({', '.join(_weight(s) for s in record.raw_weights.values())})" for label, record in still.items()
    ]
    note = tag("p", f"Weights that do not move: {listed(words)}.", class_="chart-note") if words else None
    return _section("weights", "Task weights", aid, charts, _looks(material, moving), note)


def conflicts_section(material: Material) -> Section | None:
    """Gradient norms, cosines, conflicts and what else the runs measured of their gradients."""
    charts, drawn = [], set[str]()
    measured = any("norm_ratio" in record.scalars for record in material.records.values())
    for key, (title, subtitle, log) in SCALARS.items():
        if key == "own_norm_ratio" and measured:
            continue
        series = {label: record.scalars.get(key, ()) for label, record in material.records.items()}
        lines = aligned(material.looks, series)
        if lines:
            charts.append(line_chart(title, lines, "step", subtitle=subtitle, log=log))
            drawn |= {look.label for look, _ in lines}
    if not charts:
        return None
    aid = (
        "What task gradients on the shared parameters look like in training. A method is here if its runs recorded it: "
        "tracking.diagnostics.every turns the measurement on for any method."
    )
    return _section("conflicts", "Gradients and conflicts", aid, charts, _looks(material, drawn))


def _section(
    anchor: str, title: str, aid: str, charts: Sequence[Markup], looks: Sequence[Look], note: Markup | None = None
) -> Section:
    few, rest = charts[:SHOWN], charts[SHOWN:]
    parts: list[Markup | None] = [legend(looks), tag("div", few, class_="panels"), note]
    if rest:
        more = tag("summary", f"{len(rest)} more charts")
        parts.append(tag("details", more, tag("div", rest, class_="panels"), class_="more"))
    return Section(anchor, title, aid, Markup("").join(part for part in parts if part))


def _looks(material: Material, labels: Collection[str]) -> list[Look]:
    return [look for label, look in material.looks.items() if label in labels]


def _constant(record: Record) -> bool:
    return all(_range(series) <= CONSTANT for series in record.weights.values())


def _range(series: Series) -> float:
    values = [point.mean for point in series]
    return max(values) - min(values) + max((point.sd or 0.0) for point in series)


def _weight(series: Series) -> str:
    return significant(series[-1].mean)
