"""A paper's table beside ours: published value, our mean and spread, difference, and what the seeds say about it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.errors import UserError
from mtl.results.assignment import Assignment
from mtl.results.choice import Chosen
from mtl.results.comparison import Cell
from mtl.results.definition import ALL_TASKS, TableColumn, TableDefinition, TableRow
from mtl.results.delta_m import delta_m_metric_mean, delta_m_task_mean
from mtl.results.noise import Difference, difference, paired_difference
from mtl.results.published import PublishedValue
from mtl.results.runs import MetricInfo, Run
from mtl.results.statistics import mean, mean_rank, sample_sd
from mtl.results.totals import totals

DELTAS = {"Delta_m (task mean)": delta_m_task_mean, "Delta_m (metric mean)": delta_m_metric_mean}
Values = dict[str, dict[str, float]]
"""Task -> metric -> value."""


@dataclass(frozen=True)
class PaperCell:
    """One cell; what there is not is None.

    Attributes:
        paper: Published value.
        ours: In the published unit.
        difference: Ours minus the published value.
    """

    paper: PublishedValue | None
    ours: Cell | None
    difference: Difference | None


@dataclass(frozen=True)
class PaperRow:
    """One method.

    Attributes:
        label: Its name; with † if its runs are of another setting.
        chosen: Runs by task selection, after the choice on validation.
        cells: One per column.
        per_seed: Seed -> column title -> value in the published unit.
        delta_m: Definition -> ours, percent, positive = better.
        delta_m_seeds: Definition -> seed -> value.
        paper_delta_m: Definition -> recomputed from the published values, positive = better.
        rank: Mean rank among the multi-task rows; None without every value.
        cost: Entry of `totals.COSTS` -> mean over runs; tasks of a single-task row added up (memory: largest).
    """

    label: str
    definition: TableRow
    chosen: tuple[Chosen, ...]
    cells: Mapping[str, PaperCell]
    per_seed: Mapping[int, Mapping[str, float]]
    delta_m: Mapping[str, Cell]
    delta_m_seeds: Mapping[str, Mapping[int, float]]
    paper_delta_m: Mapping[str, float]
    rank: float | None
    cost: Mapping[str, float]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The chosen runs."""
        return tuple(run for one in self.chosen for run in one.runs)

    @property
    def seeds_text(self) -> str:
        """Number of seeds with a value, smallest to largest over the columns, and lost runs; empty without runs.

        Tasks of a single-task row may have run with different seeds, or not at all.
        """
        if not self.runs:
            return ""
        counts_of = {cell.ours.n for cell in self.cells.values() if cell.ours}
        if self.definition.is_single_task and any(cell.ours is None for cell in self.cells.values()):
            counts_of.add(0)
        low, high = min(counts_of, default=0), max(counts_of, default=0)
        lost = [run.status for run in self.runs if not run.completed]
        counts = [f"{lost.count(status)} {status}" for status in ("diverged", "failed") if status in lost]
        return (f"{low}" if low == high else f"{low}..{high}") + (f" (+{', '.join(counts)})" if counts else "")


@dataclass(frozen=True)
class PaperTable:
    """A whole table.

    Attributes:
        infos: Task -> metric -> direction and whether primary, from the runs; empty without runs.
        paired: Row label -> column title or definition of Delta_m -> difference from the reference row, paired by seed.
        competitors: Rows of the mean rank.
        problems: What kept numbers out of the table.
    """

    definition: TableDefinition
    columns: tuple[TableColumn, ...]
    infos: Mapping[str, Mapping[str, MetricInfo]]
    rows: tuple[PaperRow, ...]
    paired: Mapping[str, Mapping[str, Difference]]
    competitors: tuple[str, ...]
    assignment: Assignment
    problems: tuple[str, ...]


def build_table(definition: TableDefinition, assignment: Assignment) -> PaperTable:
    """Put a table together from the runs that were assigned to its rows."""
    infos: dict[str, Mapping[str, MetricInfo]] = {}
    for run in sorted(assignment.used, key=lambda run: -run.num_tasks):
        for task, metrics in run.tasks.items():
            infos.setdefault(task, metrics)
    pairs = _pairs(definition.columns, infos)
    seeds = {label: _per_seed(chosen, definition.split) for label, chosen in assignment.rows.items()}
    problems: list[str] = []
    baseline = _baseline(definition, seeds, pairs)
    drafts = [
        _row(definition, row, assignment, seeds.get(row.label, {}), pairs, infos, baseline, problems)
        for row in definition.rows
    ]
    means = {
        row.label: {
            pair: mean(values) for pair in pairs if (values := _values(seeds.get(row.definition.label, {}), pair))
        }
        for row in drafts
        if not row.definition.is_single_task
    }
    directions = {(task, metric): infos[task][metric].higher_is_better for task, metric in pairs}
    complete = {
        label: values
        for label, values in means.items()
        if pairs and len(values) == len(pairs) and all(map(math.isfinite, values.values()))
    }
    ranks = mean_rank(complete, directions) if complete else {}
    rows = tuple(_with_rank(row, ranks.get(row.label)) for row in drafts)
    return PaperTable(
        definition,
        definition.columns,
        infos,
        rows,
        _paired(definition, rows),
        tuple(complete),
        assignment,
        tuple(problems),
    )


def _pairs(columns: Sequence[TableColumn], infos: Mapping[str, Mapping[str, MetricInfo]]) -> list[tuple[str, str]]:
    """Every task and metric that the columns hold, as far as the runs have it."""
    pairs: dict[tuple[str, str], None] = {}
    for column in columns:
        for task in infos if column.task == ALL_TASKS else (column.task,):
            if column.metric in infos.get(task, {}):
                pairs[task, column.metric] = None
    return list(pairs)


def _per_seed(chosen: Sequence[Chosen], split: str) -> dict[int, Values]:
    """Seed -> task -> metric -> value; a single-task row joins its runs by seed, repeats of a seed are averaged."""
    found: dict[int, dict[str, dict[str, list[float]]]] = {}
    for run in (run for one in chosen for run in one.runs if run.completed):
        for task, infos in run.tasks.items():
            for metric in infos:
                value = run.value(split, task, metric)
                if value is not None:
                    found.setdefault(run.seed, {}).setdefault(task, {}).setdefault(metric, []).append(value)
    return {
        seed: {
            task: {metric: mean(values) for metric, values in metrics.items()} for task, metrics in found[seed].items()
        }
        for seed in sorted(found)
    }


def _values(per_seed: Mapping[int, Values], pair: tuple[str, str]) -> list[float]:
    task, metric = pair
    return [values[task][metric] for values in per_seed.values() if metric in values.get(task, {})]


def _baseline(
    definition: TableDefinition, seeds: Mapping[str, Mapping[int, Values]], pairs: Sequence[tuple[str, str]]
) -> Values:
    """Mean single-task values of the tasks and metrics that the table holds."""
    label = next((row.label for row in definition.rows if row.is_single_task), "")
    found: Values = {}
    for task, metric in pairs:
        values = _values(seeds.get(label, {}), (task, metric))
        if values:
            found.setdefault(task, {})[metric] = mean(values)
    return found


def _row(
    definition: TableDefinition,
    row: TableRow,
    assignment: Assignment,
    seeds: Mapping[int, Values],
    pairs: Sequence[tuple[str, str]],
    infos: Mapping[str, Mapping[str, MetricInfo]],
    baseline: Values,
    problems: list[str],
) -> PaperRow:
    published = definition.published.row(row.published) if definition.published and row.published else None
    per_seed = {
        seed: {
            column.title: value * column.scale
            for column in definition.columns
            if (value := _column_value(column, values, infos)) is not None
        }
        for seed, values in seeds.items()
    }
    cells = {}
    for column in definition.columns:
        paper = published.values.get(column.published) if published and column.published else None
        ours = [values[column.title] for values in per_seed.values() if column.title in values]
        gap = None
        if paper is not None and ours:
            gap = difference([value - paper.value for value in ours], paper.ci or 0.0, abs(paper.value))
        cells[column.title] = PaperCell(paper, Cell(mean(ours), sample_sd(ours), len(ours)) if ours else None, gap)
    delta_seeds = {} if row.is_single_task else _deltas(seeds, baseline, pairs, infos, problems)
    deltas = {
        title: Cell(mean(list(values.values())), sample_sd(list(values.values())), len(values))
        for title, values in delta_seeds.items()
        if values
    }
    chosen = assignment.rows.get(row.label, ())
    label = f"{row.label} †" if row.label in assignment.foreign else row.label
    paper_deltas = paper_delta_m(definition, row)
    return PaperRow(label, row, chosen, cells, per_seed, deltas, delta_seeds, paper_deltas, None, totals(chosen))


def _with_rank(row: PaperRow, rank: float | None) -> PaperRow:
    return PaperRow(**{**row.__dict__, "rank": rank})


def _column_value(column: TableColumn, values: Values, infos: Mapping[str, Mapping[str, MetricInfo]]) -> float | None:
    if column.task != ALL_TASKS:
        return values.get(column.task, {}).get(column.metric)
    found = [values.get(task, {}).get(column.metric) for task in infos]
    known = [value for value in found if value is not None]
    return mean(known) if known and len(known) == len(found) else None


def _deltas(
    seeds: Mapping[int, Values],
    baseline: Values,
    pairs: Sequence[tuple[str, str]],
    infos: Mapping[str, Mapping[str, MetricInfo]],
    problems: list[str],
) -> dict[str, dict[int, float]]:
    """Delta_m of every seed that has every value, against the mean single-task values.

    Empty where a metric is undefined, in the baseline or for a seed: a mean of the others is not comparable.
    """
    if not pairs or any(not math.isfinite(baseline.get(task, {}).get(metric, math.nan)) for task, metric in pairs):
        return {}
    if not all(math.isfinite(value) for pair in pairs for value in _values(seeds, pair)):
        return {}
    directions = {task: {m: infos[task][m].higher_is_better for t, m in pairs if t == task} for task, _ in pairs}
    result: dict[str, dict[int, float]] = {title: {} for title in DELTAS}
    for seed, values in seeds.items():
        if any(metric not in values.get(task, {}) for task, metric in pairs):
            continue
        kept = {task: {metric: values[task][metric] for metric in metrics} for task, metrics in directions.items()}
        for title, define in DELTAS.items():
            try:
                result[title][seed] = define(kept, baseline, directions)
            except UserError as error:
                problems += [] if str(error) in problems else [str(error)]
    return result


def paper_delta_m(definition: TableDefinition, row: TableRow) -> dict[str, float]:
    """Delta_m of a published row in our sign, over the columns of the table, recomputed from its printed values.

    Empty where a value is missing, or where a column is a mean over tasks: that is another quantity than ours.
    """
    table = definition.published
    published = table.row(row.published) if table and row.published else None
    single = table.row("single_task") if table else None
    if table is None or published is None or single is None or published is single:
        return {}
    higher = {metric.key: metric.higher_is_better for metric in table.metrics}
    ours: Values = {}
    base: Values = {}
    directions: dict[str, dict[str, bool]] = {}
    for column in definition.columns:
        key = column.published
        if key is None or column.task == ALL_TASKS or key not in published.values or key not in single.values:
            return {}
        ours.setdefault(column.task, {})[key] = published.values[key].value
        base.setdefault(column.task, {})[key] = single.values[key].value
        directions.setdefault(column.task, {})[key] = higher[key]
    try:
        return {title: define(ours, base, directions) for title, define in DELTAS.items()}
    except UserError:
        return {}  # a single-task value of zero


def _paired(definition: TableDefinition, rows: Sequence[PaperRow]) -> dict[str, dict[str, Difference]]:
    """Every row minus the reference row, over the seeds that both have."""
    reference = next((row for row in rows if row.definition.label == definition.reference), None)
    result: dict[str, dict[str, Difference]] = {}
    if reference is None or not reference.per_seed:
        return result
    for row in rows:
        if row is reference or not row.per_seed:
            continue
        found = {
            column.title: paired_difference(_column(row, column.title), _column(reference, column.title))
            for column in definition.columns
        }
        for title in DELTAS:
            if title in row.delta_m_seeds and title in reference.delta_m_seeds:
                found[title] = paired_difference(row.delta_m_seeds[title], reference.delta_m_seeds[title])
        result[row.label] = {title: one for title, one in found.items() if one is not None}
    return result


def _column(row: PaperRow, title: str) -> dict[int, float]:
    return {seed: values[title] for seed, values in row.per_seed.items() if title in values}
