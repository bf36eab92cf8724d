"""The section on differences to a reference method, and whether they exceed the noise between seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mtl.results.comparison import Row
from mtl.results.noise import ALPHA, LARGER, Difference, holm, paired_difference
from mtl.results.report.glyphs import name
from mtl.results.report.markup import hidden, tag
from mtl.results.report.material import Material, Section, unit
from mtl.results.report.numbers import NONE, fixed, signed
from mtl.results.report.results import finest
from mtl.results.report.tables import Entry, Head, sortable

MOST_MEASURES = 4
REFERENCE = "uniform"


@dataclass(frozen=True)
class Measure:
    """A quantity in which methods are compared: its title, +1 if more is better, and its values by method and seed."""

    title: str
    better: int
    values: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Verdicts:
    """Differences of methods to a reference in one measure, with Holm's adjusted p-values."""

    measure: Measure
    reference: Row
    differences: Mapping[str, Difference]
    adjusted: Mapping[str, float]

    def beyond_noise(self, sign: int) -> list[str]:
        """Methods whose difference is larger than seed noise and better (+1) or worse (-1), largest first."""
        found = {
            label: difference.mean * self.measure.better * sign
            for label, difference in self.differences.items()
            if difference.verdict == LARGER and difference.mean * self.measure.better * sign > 0
        }
        return sorted(found, key=lambda label: -found[label])

    @property
    def surviving(self) -> list[str]:
        """Methods whose difference remains after Holm's correction."""
        return [label for label, p in self.adjusted.items() if p < ALPHA]


def reference_row(material: Material) -> Row | None:
    """`uniform` if it is there, else the first multi-task method by name; one with completed runs.

    None too where `uniform` ran but `unsettled_reference` says why it cannot be what the others are judged against.
    """
    rows = [row for row in material.competitors if row.per_seed]
    uniform = [row for row in rows if row.method.runs[0].strategy == REFERENCE]
    return None if unsettled_reference(material) else min(uniform or rows, key=lambda row: row.label, default=None)


def unsettled_reference(material: Material) -> str:
    """Why no one row of `uniform` can be the reference; empty if there is one, or no completed run of it at all."""
    rows = [row for row in material.competitors if row.method.runs[0].strategy == REFERENCE and row.per_seed]
    if len(rows) > 1:
        names = ", ".join(row.label for row in rows)
        return f"{REFERENCE} is there under several settings, task selections or data ({names})"
    lost = [row.method.unsettled for row in material.candidates if row.method.runs[0].strategy == REFERENCE]
    return next((text for text in lost if text and not rows), "")


def measures(material: Material) -> list[Measure]:
    """Delta_m in its definitions; without it the primary metrics, at most `MOST_MEASURES`."""
    found = [
        Measure(
            f"{title} in percentage points",
            1,
            {row.label: {s: v[title] for s, v in row.delta_per_seed.items()} for row in material.competitors},
        )
        for title in material.comparison.delta_m
        if material.has_delta_m
    ]
    return found or [
        Measure(
            f"{column.task} {column.metric}{unit(column.metric)}",
            1 if column.higher_is_better else -1,
            {
                row.label: {s: v[column] for s, v in row.per_seed.items() if math.isfinite(v.get(column, math.nan))}
                for row in material.competitors
            },
        )
        for column in finest(material.comparison.columns)[:MOST_MEASURES]
    ]


def verdicts(material: Material) -> list[Verdicts]:
    """Paired differences of every other multi-task method to the reference; measures without any are left out."""
    reference = reference_row(material)
    found = []
    for measure in measures(material) if reference is not None else []:
        assert reference is not None
        base = measure.values[reference.label]
        pairs = {
            row.label: paired_difference(measure.values[row.label], base)
            for row in material.competitors
            if row is not reference
        }
        differences = {label: pair for label, pair in pairs.items() if pair is not None}
        tested = {label: pair.p_value for label, pair in differences.items() if pair.p_value is not None}
        if differences:
            adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
            found.append(Verdicts(measure, reference, differences, adjusted))
    return found


def differences_section(material: Material) -> Section | None:
    """A line a method: its difference to the reference with the interval of Student's t."""
    found = verdicts(material)
    if not found:
        return None
    reference = found[0].reference.label
    aid = (
        f"Difference to {reference} of runs with the same seed: the bar is the 95 % interval of Student's t. A bar "
        "that leaves out the line at 0 is a difference larger than seed noise."
    )
    parts = [part for one in found for part in (tag("h3", one.measure.title), _table(material, one))]
    note = tag(
        "p",
        "The p-values beside the verdicts are adjusted by Holm for the number of comparisons in the table; the "
        "verdicts are not. “Seeds needed” is for 80 % power if mean and spread are as observed, a rough number.",
        class_="chart-note",
    )
    return Section("differences", "Differences and seed noise", aid, Markup("").join([*parts, note]))


def _table(material: Material, found: Verdicts) -> Markup:
    heads = [
        Head("method", text=True),
        Head("difference", found.measure.better),
        Head("95 % interval"),
        Head("verdict", text=True),
        Head("p (Holm)", -1),
        Head("seeds"),
        Head("seeds needed", -1),
    ]
    low, high = _span(list(found.differences.values()))
    order = sorted(found.differences, key=lambda label: -found.differences[label].mean * found.measure.better)
    lines = []
    for label in order:
        difference, look = found.differences[label], material.looks[label]
        half = difference.half_width
        adjusted = found.adjusted.get(label)
        needed = difference.seeds_needed
        cells = [
            Entry(name(look), label),
            Entry(signed(difference.mean), difference.mean),
            Entry(_bar(difference, low, high, look.css), difference.mean, "interval-cell"),
            Entry(difference.verdict, difference.verdict, "strong" if difference.verdict == LARGER else ""),
            Entry(NONE if adjusted is None else fixed(adjusted, 3), adjusted),
            Entry(str(difference.n), float(difference.n)),
            Entry(NONE if half is None else "over 1000" if needed is None else str(needed), float(needed or 1001)),
        ]
        lines.append((cells, look.key))
    return sortable(f"Differences to {found.reference.label}: {found.measure.title}", heads, lines, "forest")


def _span(differences: Sequence[Difference]) -> tuple[float, float]:
    """A range with 0 in it that holds every mean, and intervals unless they are many times wider than the others."""
    ends = sorted(abs(d.mean) + (d.half_width or 0) for d in differences)
    limit = max(3 * ends[len(ends) // 2], 1.3 * max(abs(d.mean) for d in differences)) or 1.0
    low = min(0.0, *(max(-limit, d.mean - (d.half_width or 0)) for d in differences))
    high = max(0.0, *(min(limit, d.mean + (d.half_width or 0)) for d in differences))
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _bar(difference: Difference, low: float, high: float, css: str) -> Markup:
    """The interval, drawn with boxes in percent of the cell's width, so that it fits any screen."""

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 1)

    parts = [tag("i", class_="zero", style=f"left:{place(0)}%")]
    words = signed(difference.mean)
    if difference.half_width is not None:
        left, right = difference.mean - difference.half_width, difference.mean + difference.half_width
        ends = f"{'' if left >= low else 'open-left '}{'' if right <= high else 'open-right'}".strip()
        style = f"left:{place(left)}%;right:{round(100 - place(right), 1)}%"
        parts.append(tag("i", class_=f"interval {ends}".strip(), style=style))
        words = f"{signed(left)} to {signed(right)}"
    parts.append(tag("i", class_="centre", style=f"left:{place(difference.mean)}%"))
    return tag("div", tag("div", parts, class_=f"range {css}", aria_hidden="true", title=words), hidden(words))
