"""The section with the results table."""

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from mtl.results.comparison import COSTS, Cell, Column, Row
from mtl.results.noise import half_width
from mtl.results.rendering import decimals
from mtl.results.report.glyphs import name
from mtl.results.report.markup import hidden, tag
from mtl.results.report.material import Material, Section, better, unit
from mtl.results.report.numbers import NONE, counted, fixed, listed
from mtl.results.report.tables import Entry, Head, sortable
from mtl.results.report.times import cpu_times
from mtl.results.statistics import mean, sample_sd

BEST, NEAR = "\N{BLACK DIAMOND}", "\N{ALMOST EQUAL TO}"


def results_section(material: Material) -> Section:
    """Every method with mean and spread of every metric, Delta_m, mean rank and cost."""
    comparison = material.comparison
    heads = [Head("method", text=True)]
    makers: list[Callable[[Row], Entry]] = [lambda row: Entry(name(material.looks[row.label]), row.label)]

    def add(head: Head, cells: Mapping[str, Cell], seeds: Mapping[str, Mapping[int, float]], places: int) -> None:
        marks = _marks(material.competitors, cells, seeds, head.better)
        heads.append(head)
        makers.append(lambda row: _entry(cells.get(row.label), places, marks.get(row.label, "")))

    for title in comparison.delta_m:
        cells = {row.label: row.delta_m[title] for row in material.rows if title in row.delta_m}
        seeds = {row.label: {s: v[title] for s, v in row.delta_per_seed.items()} for row in material.rows}
        if cells:
            head = Head(
                f"{title.replace(' (', ', ').replace(')', '')} %",
                1,
                about="Mean relative gain over single-task training; positive is better",
            )
            add(head, cells, seeds, 2)
    if any(row.mean_rank is not None for row in material.rows):
        ranks = {row.label: Cell(row.mean_rank, None, 0) for row in material.rows if row.mean_rank is not None}
        add(Head("mean rank", -1, about="Over all metrics; 1 is best; see the list of competitors"), ranks, {}, 2)
    for column in comparison.columns:
        cells = {row.label: row.values[column] for row in material.rows if column in row.values}
        seeds = {row.label: {s: v[column] for s, v in row.per_seed.items() if column in v} for row in material.rows}
        head = Head(f"{column.metric}{unit(column.metric)}", 1 if column.higher_is_better else -1, group=column.task)
        add(head, cells, seeds, decimals(comparison.rows, column))
    costs_by_title = {
        "ms": {row.label: row.cost[COSTS[0]] for row in material.rows if COSTS[0] in row.cost},
        "CPU ms": cpu_times(material),
        "backbone backwards": {row.label: row.cost[COSTS[1]] for row in material.rows if COSTS[1] in row.cost},
        "optimizer steps": {row.label: row.cost[COSTS[2]] for row in material.rows if COSTS[2] in row.cost},
    }
    for short, values in costs_by_title.items():
        costs = {label: Cell(value, None, 0) for label, value in values.items()}
        if costs:
            heads.append(Head(short, -1, group="cost per step"))
            makers.append(lambda row, costs=costs: _entry(costs.get(row.label), 2, ""))  # type: ignore[misc]
    heads.append(Head("seeds", 1))
    makers.append(lambda row: Entry(row.seeds_text, float(len(row.seeds))))
    lines = [([make(row) for make in makers], material.looks[row.label].key) for row in material.rows]
    css = "results wide" if len(heads) > 10 else "results"
    aid = (
        f"Split {comparison.split}, mean ± standard deviation over seeds. {BEST} marks the best multi-task mean of a "
        f"column, {NEAR} what does not differ from it by more than seed noise. Activate a header to sort by it."
    )
    table = sortable("Results", heads, lines, css)
    status = tag("p", counted(len(lines), "method"), class_="status", id="shown", role="status")
    return Section("results", "Results", aid, Markup("").join((status, table, _reading(material))))


def _reading(material: Material) -> Markup:
    """What has to stand directly below the numbers."""
    notes = [note for note in material.comparison.footnotes if note.startswith(("Delta_m:", "Mean rank:", "Baseline"))]
    names: dict[str, list[str]] = {}
    for column in material.comparison.columns:
        names.setdefault(better(column), []).append(f"{column.task} {column.metric}")
    if len(names) == 1:
        notes.append(f"Directions: {next(iter(names))} for every metric.")
    elif names:
        notes.append(f"Directions: {'; '.join(f'{way} for {listed(which)}' for way, which in names.items())}.")
    return tag("ul", [tag("li", note) for note in notes], class_="notes")


def _entry(cell: Cell | None, places: int, mark: str) -> Entry:
    if cell is None:
        return Entry(tag("span", NONE, hidden("none"), class_="none"), None)
    sign = {
        BEST: tag("span", tag("span", BEST, aria_hidden="true"), hidden("best "), class_="mark"),
        NEAR: tag(
            "span", tag("span", NEAR, aria_hidden="true"), hidden("not distinguishable from the best "), class_="mark"
        ),
    }.get(mark)
    centre = fixed(cell.mean, places)
    sd = None if cell.sd is None else tag("span", f" ± {fixed(cell.sd, places)}", class_="sd")
    value = cell.mean if math.isfinite(cell.mean) else None
    return Entry((sign, tag("span", centre, class_="v"), sd), value, "best" if mark == BEST else "")


def _marks(
    rows: Sequence[Row], cells: Mapping[str, Cell], seeds: Mapping[str, Mapping[int, float]], direction: int
) -> dict[str, str]:
    """The best multi-task mean of a column (all of them, if several are equal), and what is within noise of it."""
    means = {row.label: cells[row.label].mean for row in rows if row.label in cells}
    means = {label: value for label, value in means.items() if math.isfinite(value)}
    if len(means) < 2:
        return {}
    top = max(means.values(), key=lambda value: direction * value)
    best = [label for label, value in means.items() if value == top]
    marks = dict.fromkeys(best, BEST)
    for label in means.keys() - marks.keys():
        if seeds and within_noise(seeds[best[0]], seeds[label]):
            marks[label] = NEAR
    return marks


def within_noise(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Whether the paired t interval of the difference holds 0; False without two shared seeds: nothing is known."""
    shared = sorted(first.keys() & second.keys())
    differences = [first[seed] - second[seed] for seed in shared]
    sd = sample_sd(differences)
    return sd is not None and abs(mean(differences)) <= half_width(sd, len(differences))


def finest(columns: Sequence[Column]) -> list[Column]:
    """Primary columns, or all if there are none."""
    return [column for column in columns if column.primary] or list(columns)
