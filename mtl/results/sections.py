"""A table as sections of text cells: what all outputs for people share. At most 120 characters wide, if cells allow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.results.budget import BUDGETS, MOST_UNEVEN, SECONDS, common_budget, metrics_within, uneven_seconds
from mtl.results.comparison import Cell
from mtl.results.definition import ALL_TASKS, TableColumn
from mtl.results.noise import EQUAL, LARGER, NO_SPREAD, ONE_SEED, UNDEFINED, WITHIN, Difference
from mtl.results.paper_table import DELTAS, PaperCell, PaperRow, PaperTable
from mtl.results.runs import Run
from mtl.results.statistics import mean, sample_sd
from mtl.results.totals import COSTS

WIDTH = 120
SHORT = {LARGER: "larger", WITHIN: "within", ONE_SEED: "one seed", NO_SPREAD: "no spread", EQUAL: "equal"}
NOT_YET, NONE_COMPLETED = "not yet evaluated", "no completed run"


@dataclass(frozen=True)
class Section:
    """A titled grid of text; an empty cell means that there is no such number."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(table: PaperTable) -> list[Section]:
    """Values beside the paper, summary, cost, paired differences, equal budgets; those without content are left out."""
    found = [*_values(table), _summary(table), _cost(table), _paired(table), *_budgets(table)]
    return [section for section in found if section is not None]


def _values(table: PaperTable) -> list[Section]:
    """One grid, or several side by side in sequence where one would be too wide."""
    blocks = [_block(table, column) for column in table.columns]
    labels = [row.label for row in table.rows]
    grids: list[list[list[list[str]]]] = [[]]
    for block in blocks:
        if grids[-1] and _width([["method", *labels], *_flat(grids[-1]), *block]) > WIDTH:
            grids.append([])
        grids[-1].append(block)
    result = []
    for index, grid in enumerate(grids):
        columns = [["method", *labels], *_flat(grid)]
        lines = list(zip(*columns, strict=True))
        part = f" ({index + 1} of {len(grids)})" if len(grids) > 1 else ""
        result.append(Section(f"Values{part}", lines[0], tuple(lines[1:])))
    return result


def _flat(grid: Sequence[Sequence[list[str]]]) -> list[list[str]]:
    return [column for block in grid for column in block]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(max(map(len, part.split("\n"))) for part in column) + 2 for column in columns)


def _block(table: PaperTable, column: TableColumn) -> list[list[str]]:
    """Paper | ours | difference | verdict of one metric; only ours where the paper has no number."""
    arrow = _arrow(table, column)
    cells = [row.cells[column.title] for row in table.rows]
    printed = any(cell.paper is not None for cell in cells)
    decimals = _decimals(
        [c.ours.mean for c in cells if c.ours and math.isfinite(c.ours.mean)]
        + [c.paper.value for c in cells if c.paper]
    )
    name = f"{column.title}{arrow}".replace(" ", "\n", 1)
    ours = [f"{name}\nours", *(cell.ours.text(decimals) if cell.ours else "" for cell in cells)]
    if not printed:
        return [ours]
    if not table.assignment.used:
        return [[f"{name}\npaper", *(_paper_text(cell, decimals) for cell in cells)]]
    paper = [f"{name}\npaper", *(_paper_text(cell, decimals) for cell in cells)]
    gap = ["\nours -\npaper", *(_gap(cell.difference, decimals) for cell in cells)]
    verdict = ["\n\nverdict", *(_verdict(cell.difference) if cell.difference else "" for cell in cells)]
    return [paper, ours, gap, verdict]


def _gap(one: Difference | None, decimals: int) -> str:
    return f"{one.mean:+.{decimals}f}" if one is not None and math.isfinite(one.mean) else ""


def _paper_text(cell: PaperCell, decimals: int) -> str:
    if cell.paper is None:
        return ""
    text = f"{cell.paper.value:.{decimals}f}"
    return text if cell.paper.ci is None else f"{text} ± {cell.paper.ci:.{decimals}f}"


def _arrow(table: PaperTable, column: TableColumn) -> str:
    published = table.definition.published
    tasks = table.infos if column.task == ALL_TASKS else (column.task,)
    directions = [
        table.infos[task][column.metric].higher_is_better
        for task in tasks
        if column.metric in table.infos.get(task, {})
    ]
    if published:
        directions += [metric.higher_is_better for metric in published.metrics if metric.key == column.published]
    return (" ↑" if directions[0] else " ↓") if directions else ""


def _decimals(values: Sequence[float]) -> int:
    largest = max((abs(value) for value in values), default=1.0)
    return 2 if largest >= 3 else 4


def _verdict(one: Difference) -> str:
    return SHORT.get(one.verdict, one.verdict)


def _summary(table: PaperTable) -> Section:
    paper = any(row.paper_delta_m for row in table.rows)
    several = _several_metrics(table)
    titles = list(DELTAS) if several else list(DELTAS)[:1]
    name = {title: title if several else "Delta_m" for title in titles}
    header = ["method"]
    for title in titles:
        text = name[title].replace(" (", "\n(") if several else name[title]
        header += [f"{text} % ↑\npaper"] * paper + [f"{text} % ↑\nours"]
    header += ["mean\nrank ↓", "chosen on validation", "candidates\nrun", "on\nseeds", "seeds"]
    lines = []
    for row in table.rows:
        line = [row.label]
        for title in titles:
            printed = row.paper_delta_m.get(title)
            line += [f"{printed:+.2f}" if printed is not None else ""] * paper
            line += [_signed(row.delta_m[title]) if title in row.delta_m else ""]
        choices = [_choice(row, index) for index in range(len(row.chosen))]
        counts = "/".join(
            str(sum(numbers))
            for numbers in ([one.candidates for one in row.chosen], [one.planned for one in row.chosen])
        )
        rank = f"{row.rank:.2f}" if row.rank is not None else ""
        chosen = "; ".join(choices)
        compared_on = "; ".join(dict.fromkeys(",".join(map(str, one.seeds)) for one in row.chosen if one.seeds))
        lines.append((*line, rank, chosen, counts if row.chosen else "", compared_on, row.seeds_text))
    return Section("Summary", tuple(header), tuple(lines))


def _several_metrics(table: PaperTable) -> bool:
    """Whether the two definitions of Delta_m can differ: a task has several metrics."""
    return len(table.columns) > len({column.task for column in table.columns})


def _choice(row: PaperRow, index: int) -> str:
    one = row.chosen[index]
    tasks = ",".join(one.runs[0].tasks) if one.runs and row.definition.is_single_task else ""
    text = one.choice or one.note or "nothing to choose"
    return f"{tasks}: {text}" if tasks else text


def _signed(cell: Cell) -> str:
    return f"{cell.mean:+.2f}" + (f" ± {cell.sd:.2f}" if cell.sd is not None else "")


def _cost(table: PaperTable) -> Section | None:
    rows = [row for row in table.rows if row.cost]
    if not rows:
        return None
    titles = [title for title in COSTS if any(title in row.cost for row in rows)]
    lines = tuple(
        (row.label, *(_rounded(row.cost[title]) if title in row.cost else "" for title in titles)) for row in rows
    )
    return Section("Cost of one run, from first step to last", ("method", *titles), lines)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _paired(table: PaperTable) -> Section | None:
    primary = [
        column.title
        for column in table.columns
        if column.task == ALL_TASKS
        or (info := table.infos.get(column.task, {}).get(column.metric)) is None
        or info.primary
    ]
    shown = [*primary, next(iter(DELTAS))]
    lines = []
    for label, differences in table.paired.items():
        for title in shown:
            if title in differences:
                name = title if _several_metrics(table) else title.partition(" (")[0]
                lines.append((label, name, *_paired_cells(differences[title])))
    if not lines:
        return None
    header = (
        "method",
        "column",
        "difference\n± 95 % (t)",
        "bootstrap\n95 %",
        "\np",
        "\nverdict",
        "\nseeds",
        "seeds for\n80 % power",
    )
    return Section(f"Difference from {table.definition.reference}, paired by seed", header, tuple(lines))


def _paired_cells(one: Difference) -> tuple[str, ...]:
    if not math.isfinite(one.mean):
        return "", "", "", _verdict(one), str(one.n), ""
    decimals = 2 if abs(one.mean) >= 0.005 or one.mean == 0 else 4
    centre = f"{one.mean:+.{decimals}f}"
    if one.half_width is None or one.bootstrap is None or one.p_value is None:
        return centre, "", "", _verdict(one), str(one.n), ""
    low, high = one.bootstrap
    return (
        f"{centre} ± {one.half_width:.{decimals}f}",
        f"{low:+.{decimals}f} .. {high:+.{decimals}f}",
        f"{one.p_value:.3f}",
        _verdict(one),
        str(one.n),
        str(one.seeds_needed) if one.seeds_needed else "> 1000",
    )


def _budgets(table: PaperTable) -> list[Section]:
    """Values at the largest budget that every multi-task row spent."""
    rows = [row for row in table.rows if row.runs and not row.definition.is_single_task]
    done = _budget_runs(table)
    result = []
    for budget in BUDGETS:
        limit = common_budget(done, budget)
        if limit is None or len(rows) < 2 or (budget == SECONDS and seconds_note(table)):
            continue
        lines = []
        for row in rows:
            reached = [(run.seed, metrics_within(run, budget, limit)) for run in row.runs if run.completed]
            split = [(seed, metrics.get(table.definition.split, {}) if metrics else {}) for seed, metrics in reached]
            lines.append((row.label, *(_budget_cell(table, column, split) for column in table.columns)))
        title = f"Equal {budget}: reported metrics within {_rounded(limit)}"
        header = ("method", *(f"{column.title}{_arrow(table, column)}" for column in table.columns))
        result += _split(Section(title, header, tuple(lines)))
    return result


def _budget_runs(table: PaperTable) -> list[Run]:
    return [run for row in table.rows if not row.definition.is_single_task for run in row.runs if run.completed]


def seconds_note(table: PaperTable) -> str:
    """Why there is no view of equal training seconds; empty if there is one, or nothing to show in it."""
    uneven = uneven_seconds(_budget_runs(table))
    if uneven is None or uneven <= MOST_UNEVEN:
        return ""
    return (
        f"No view of equal training seconds: seconds per CPU second differ by a factor of {uneven:.1f} between runs, "
        f"so other work on the machine would decide it (shown up to {MOST_UNEVEN}). Compare by CPU seconds of training."
    )


def _budget_cell(
    table: PaperTable, column: TableColumn, metrics: Sequence[tuple[int, Mapping[str, Mapping[str, float | None]]]]
) -> str:
    """Mean ± sd over seeds; repeats of a seed are averaged first."""
    if not metrics:
        return NONE_COMPLETED
    tasks = list(table.infos) if column.task == ALL_TASKS else [column.task]
    seeds: dict[int, list[float]] = {}
    for seed, one in metrics:
        found = [one[task][column.metric] for task in tasks if column.metric in one.get(task, {})]
        if len(found) < len(tasks) or not found:
            return NOT_YET
        seeds.setdefault(seed, []).append(mean([math.nan if v is None else v * column.scale for v in found]))
    values = [mean(repeats) for repeats in seeds.values()]
    if not all(map(math.isfinite, values)):
        return UNDEFINED
    return Cell(mean(values), sample_sd(values), len(values)).text(_decimals(values))


def _split(section: Section) -> list[Section]:
    """The section in parts that fit `WIDTH`; each repeats the first column."""
    columns = list(zip(section.header, *section.rows, strict=True))
    parts: list[list[tuple[str, ...]]] = [[]]
    for column in columns[1:]:
        if parts[-1] and _width([columns[0], *parts[-1], column]) > WIDTH:
            parts.append([])
        parts[-1].append(column)
    result = []
    for part in parts:
        lines = list(zip(columns[0], *part, strict=True))
        result.append(Section(section.title, lines[0], tuple(lines[1:])))
    return result
