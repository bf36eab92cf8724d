"""The comparison of methods: one row a method, every number with its spread, its count and what it means."""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtl.errors import UserError
from mtl.results.delta_m import delta_m_metric_mean, delta_m_task_mean
from mtl.results.runs import Method, Run, group_methods
from mtl.results.statistics import TIE_RULE, mean, mean_rank, sample_sd

if TYPE_CHECKING:
    from rich.table import Table

EMPTY = "-"
COSTS = ("ms/step", "backbone backwards/step", "optimizer steps/step")
_DELTAS = {"Delta_m (task mean)": delta_m_task_mean, "Delta_m (metric mean)": delta_m_metric_mean}


@dataclass(frozen=True)
class Column:
    """One task and metric."""

    task: str
    metric: str
    higher_is_better: bool
    primary: bool

    @property
    def title(self) -> str:
        """Header, with an arrow in the direction of better."""
        return f"{self.task} {self.metric} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Cell:
    """A mean over `n` seeds and its sample standard deviation (None for n = 1)."""

    mean: float
    sd: float | None
    n: int

    def text(self, decimals: int) -> str:
        """Mean ± sd."""
        centre = f"{self.mean:.{decimals}f}"
        return centre if self.sd is None else f"{centre} ± {self.sd:.{decimals}f}"


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: Label and runs.
        values: Column -> cell; a column without a value is absent.
        delta_m: Title of the definition -> cell in percent; absent without a complete baseline.
        mean_rank: None for single-task rows and rows with missing values.
        cost: Entry of COSTS -> mean over runs.
        per_seed: Seed -> column -> value (mean of repeats of a seed).
        delta_per_seed: Seed -> title of the definition -> percent.
    """

    method: Method
    values: Mapping[Column, Cell]
    delta_m: Mapping[str, Cell]
    mean_rank: float | None
    cost: Mapping[str, float]
    per_seed: Mapping[int, Mapping[Column, float]]
    delta_per_seed: Mapping[int, Mapping[str, float]]

    @property
    def label(self) -> str:
        """Name of the method, unique in its table."""
        return self.method.label

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the completed runs."""
        return tuple(sorted({run.seed for run in self.method.completed}))

    def count(self, status: str) -> int:
        """Number of runs that ended so."""
        return sum(run.status == status for run in self.method.runs)

    @property
    def seeds_text(self) -> str:
        """Number of seeds, and of runs that did not complete."""
        lost = [f"{self.count(status)} {status}" for status in ("diverged", "failed") if self.count(status)]
        return f"{len(self.seeds)} (+{', '.join(lost)})" if lost else str(len(self.seeds))


@dataclass(frozen=True)
class Comparison:
    """A table: its columns, rows in order, and the footnotes without which it says too little."""

    split: str
    columns: tuple[Column, ...]
    delta_m: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]


def compare(runs: Iterable[Run], *, split: str = "test", allow_mixed: bool = False) -> Comparison:
    """Compare methods by their final metrics on `split`; the order of `runs` does not matter.

    Args:
        runs: All runs of the experiment. Diverged and failed ones are counted and named, not averaged.
        split: Split of the metrics.
        allow_mixed: Accept runs of different settings (data, network, protocol) in one table; each method is then
            measured against the single-task runs of its own setting.

    Raises:
        UserError: There are no runs, settings are mixed, or runs disagree about a metric's direction.
    """
    ordered = sorted(runs, key=lambda run: str(run.path))
    if not ordered:
        raise UserError("A comparison needs at least one run. Found none. Train something first.")
    _check_settings(ordered, allow_mixed)
    columns = _columns(ordered)
    methods = group_methods(ordered)
    per_seed = {method.label: _per_seed(method, columns, split) for method in methods}
    baselines = {
        method.runs[0].setting_hash: _means(per_seed[method.label], columns) for method in methods if method.is_baseline
    }
    titles = tuple(_DELTAS) if any(n > 1 for n in Counter(c.task for c in columns).values()) else ("Delta_m",)
    problems: list[str] = []
    rows: list[Row] = []
    means = {label: {c: cell.mean for c, cell in _means(seeds, columns).items()} for label, seeds in per_seed.items()}
    competitors = {
        method.label: means[method.label]
        for method in methods
        if not method.runs[0].is_single_task and columns and _complete(means[method.label], columns)
    }
    rank = mean_rank(competitors, {column: column.higher_is_better for column in columns})
    for method in methods:
        seeds = per_seed[method.label]
        baseline = baselines.get(method.runs[0].setting_hash, {})
        deltas = _delta_per_seed(method, seeds, baseline, columns, titles, problems)
        cells = {
            title: _cell([deltas[seed][title] for seed in deltas], centre=0.0 if method.is_baseline else None)
            for title in titles
            if deltas
        }
        if method.is_baseline and not deltas and not problems and all(column in baseline for column in columns):
            cells = {title: Cell(0.0, None, 0) for title in titles}  # by definition; no pairs of seeds for a spread
        values = _means(seeds, columns)
        rows.append(Row(method, values, cells, rank.get(method.label), _cost(method, columns), seeds, deltas))
    rows.sort(key=lambda row: _order(row, titles[0]))
    notes = _footnotes(rows, columns, split, baselines, sorted(competitors), problems)
    return Comparison(split, columns, titles, tuple(rows), tuple(notes))


def _check_settings(runs: Sequence[Run], allow_mixed: bool) -> None:
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(run.setting_hash, []).append(run)
    if len(settings) > 1 and not allow_mixed:
        found = "\n".join(
            f"  {setting[:12]}: {len(same)} runs, {same[0].dataset} / {same[0].backbone} / {same[0].heads}, "
            f"{same[0].epochs} epochs, e.g. {same[0].path}"
            for setting, same in sorted(settings.items())
        )
        raise UserError(
            "One table should hold runs of one setting (data, network, protocol). "
            f"Found {len(settings)} settings:\n{found}\n"
            "Give the directory of one of them, or say `allow_mixed=true` if they are comparable all the same."
        )


def _columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """Every task and metric, tasks in the order of the run with most tasks."""
    found: dict[tuple[str, str], Column] = {}
    for run in sorted(runs, key=lambda run: -run.num_tasks):
        for task, metrics in run.tasks.items():
            for name, info in metrics.items():
                column = Column(task, name, info.higher_is_better, info.primary)
                if found.setdefault((task, name), column) != column:
                    raise UserError(
                        f"Runs disagree about {task}/{name}: {run.path} says higher_is_better={info.higher_is_better}, "
                        f"primary={info.primary}; others say otherwise. Compare runs of one version of the data set."
                    )
    tasks = list(dict.fromkeys(task for task, _ in found))
    return tuple(sorted(found.values(), key=lambda column: tasks.index(column.task)))


def _per_seed(method: Method, columns: Sequence[Column], split: str) -> dict[int, dict[Column, float]]:
    """Values by seed; repeats of a seed are averaged, so that n counts seeds."""
    values: dict[int, dict[Column, list[float]]] = {}
    for run in method.completed:
        for column in columns:
            value = run.value(split, column.task, column.metric)
            if value is not None:
                values.setdefault(run.seed, {}).setdefault(column, []).append(value)
    return {seed: {column: mean(same) for column, same in values[seed].items()} for seed in sorted(values)}


def _means(per_seed: Mapping[int, Mapping[Column, float]], columns: Sequence[Column]) -> dict[Column, Cell]:
    by_column = {column: [values[column] for values in per_seed.values() if column in values] for column in columns}
    return {column: _cell(values) for column, values in by_column.items() if values}


def _cell(values: Sequence[float], centre: float | None = None) -> Cell:
    return Cell(mean(values) if centre is None else centre, sample_sd(values), len(values))


def _complete(values: Mapping[Column, float], columns: Sequence[Column]) -> bool:
    return all(column in values and math.isfinite(values[column]) for column in columns)


def _delta_per_seed(
    method: Method,
    per_seed: Mapping[int, Mapping[Column, float]],
    baseline: Mapping[Column, Cell],
    columns: Sequence[Column],
    titles: Sequence[str],
    problems: list[str],
) -> dict[int, dict[str, float]]:
    """Delta_m of each seed that has every column, against the mean single-task values; empty without a baseline."""
    if any(column not in baseline for column in columns):
        return {}
    full = {seed: values for seed, values in per_seed.items() if all(column in values for column in columns)}
    if method.is_baseline and len(full) < len(per_seed):
        full = {}  # tasks were trained with different seeds: nothing to pair
    reference = _nested({column: cell.mean for column, cell in baseline.items()}, columns)
    directions = {
        column.task: {c.metric: c.higher_is_better for c in columns if c.task == column.task} for column in columns
    }
    try:
        return {
            seed: {
                title: define(_nested(values, columns), reference, directions)
                for title, define in zip(titles, _DELTAS.values(), strict=False)
            }
            for seed, values in full.items()
        }
    except UserError as error:
        if str(error) not in problems:
            problems.append(str(error))
        return {}


def _nested(values: Mapping[Column, float], columns: Sequence[Column]) -> dict[str, dict[str, float]]:
    nested: dict[str, dict[str, float]] = {}
    for column in columns:
        nested.setdefault(column.task, {})[column.metric] = values[column]
    return nested


def _cost(method: Method, columns: Sequence[Column]) -> dict[str, float]:
    """Cost per training step, mean over completed runs; the networks of a single-task row add up, if complete."""
    by_tasks: dict[tuple[str, ...], list[Run]] = {}
    for run in method.completed:
        by_tasks.setdefault(tuple(run.tasks), []).append(run)
    if method.is_baseline and len(by_tasks) < len({column.task for column in columns}):
        return {}
    entries: dict[str, Callable[[Run], float | None]] = {
        COSTS[0]: lambda run: 1000.0 * run.cost["step_seconds"] if "step_seconds" in run.cost else None,
        COSTS[1]: lambda run: _per_step(run, "backbone_backwards"),
        COSTS[2]: lambda run: _per_step(run, "optimizer_steps"),
    }
    cost: dict[str, float] = {}
    for title, entry in entries.items():
        parts = [[value for run in same if (value := entry(run)) is not None] for same in by_tasks.values()]
        if parts and all(parts):
            cost[title] = math.fsum(mean(part) for part in parts)
    return cost


def _per_step(run: Run, key: str) -> float | None:
    return run.cost[key] / run.steps if key in run.cost and run.steps else None


def _order(row: Row, title: str) -> tuple[int, float, float, str]:
    """Single-task, uniform, then the best Delta_m first, or the best mean rank without a baseline."""
    strategy = row.method.runs[0].strategy
    group = (
        0 if row.method.is_baseline else 1 if row.method.runs[0].is_single_task else 2 if strategy == "uniform" else 3
    )
    delta = row.delta_m[title].mean if title in row.delta_m else math.nan
    rank = math.inf if row.mean_rank is None else row.mean_rank
    return group, math.inf if math.isnan(delta) else -delta, rank, row.label


def _footnotes(
    rows: Sequence[Row],
    columns: Sequence[Column],
    split: str,
    baselines: Mapping[str, Mapping[Column, Cell]],
    competitors: Sequence[str],
    problems: Sequence[str],
) -> list[str]:
    runs = sorted((run for row in rows for run in row.method.runs), key=lambda run: str(run.path))
    status = Counter(run.status for run in runs)
    notes = [
        f"Runs: {len(runs)} ({', '.join(f'{status[key]} {key}' for key in sorted(status))}). Cells: mean ± sample "
        f"standard deviation over seeds of completed runs, split {split}; one seed has no spread.",
    ]
    notes += [
        f"WARNING: {row.label}, seed {run.seed}, {run.status} and is in no mean: "
        f"{run.message or 'no message'} ({run.path})"
        for row in rows
        for run in row.method.runs
        if not run.completed
    ]
    notes += _notes_on_delta_m(columns, baselines, {run.setting_hash for run in runs}, problems)
    partial = [row.label for row in rows if any(column not in row.values for column in columns)]
    if partial:
        notes.append(f"Without a value in every column, so without Delta_m and mean rank: {', '.join(partial)}.")
    absent = [row.label for row in rows if row.mean_rank is None]
    if competitors:
        notes.append(
            f"Mean rank: over all task metrics, 1 = best, ties get the {TIE_RULE} rank, competitors: "
            f"{', '.join(competitors)}. Not ranked: {', '.join(absent) or 'none'}."
        )
    notes += _notes_on_protocol(runs)
    if any(row.method.is_baseline for row in rows):
        notes.append("Cost of single_task: the networks of its tasks added up, one step each.")
    notes += [f"{row.label}: {row.method.note}." for row in rows if row.method.note]
    for row in rows:
        repeats = Counter((tuple(run.tasks), run.seed) for run in row.method.completed)
        again = sorted({seed for (_, seed), count in repeats.items() if count > 1})
        if again:
            notes.append(f"{row.label}: seeds {again} ran more than once; their repeats are averaged and count as one.")
    return notes


def _notes_on_delta_m(
    columns: Sequence[Column],
    baselines: Mapping[str, Mapping[Column, Cell]],
    settings: Collection[str],
    problems: Sequence[str],
) -> list[str]:
    notes = [
        "Delta_m: percent, POSITIVE = better than single-task (CAGrad and Nash-MTL print the opposite sign); of each "
        "seed against the mean single-task value, so its spread leaves out the baseline's own."
    ]
    for setting, baseline in sorted(baselines.items()):
        name = f"Baseline of setting {setting[:6]}" if len(baselines) > 1 else "Baseline"
        missing = sorted({column.task for column in columns if column not in baseline})
        seeds = dict(sorted((column.task, cell.n) for column, cell in baseline.items()))
        text = ", ".join(f"{task} ({n} seeds)" for task, n in seeds.items()) or "no completed run"
        notes.append(f"{name}: single-task runs of {text}.")
        if missing:
            notes.append(f"WARNING: no single-task value for {', '.join(missing)}, so Delta_m stays empty.")
    notes += [
        f"WARNING: no single-task runs of setting {setting[:6]}, so its Delta_m stays empty."
        for setting in sorted(set(settings) - set(baselines))
    ]
    return notes + [f"WARNING: {problem}" for problem in problems]


def _notes_on_protocol(runs: Sequence[Run]) -> list[str]:
    def listing(values: Iterable[str]) -> str:
        counts = Counter(values)
        return (
            ", ".join(counts)
            if len(counts) == 1
            else ", ".join(f"{key} ({counts[key]} runs)" for key in sorted(counts))
        )

    done = [run for run in runs if run.completed]
    notes = [f"Selection rule: {listing(str(run.selection.get('rule', 'unknown')) for run in runs)}."]
    if done:
        notes.append(f"Length of completed runs: {listing(f'{run.epochs} epochs, {run.steps} steps' for run in done)}.")
    commits = {str(run.git.get("commit") or "unknown")[:12] for run in runs}
    notes.append(f"Code: git {listing(str(run.git.get('commit') or 'unknown')[:12] for run in runs)}.")
    dirty = sum(bool(run.git.get("dirty")) for run in runs)
    if len(commits) > 1 or dirty:
        notes.append(
            f"WARNING: {len(commits)} commits, {dirty} of {len(runs)} runs from a tree with uncommitted changes: "
            "differences between rows may come from the code."
        )
    settings = Counter(run.setting_hash for run in runs)
    if len(settings) > 1:
        notes.append(
            f"WARNING: settings are mixed ({listing(run.setting_hash[:6] for run in runs)}): rows differ in data, "
            "network or protocol, and each is measured against the single-task runs of its own setting."
        )
    return notes


def _decimals(rows: Iterable[Row], column: Column) -> int:
    """Decimals that show about four digits of the largest mean in a column."""
    sizes = [abs(row.values[column].mean) for row in rows if column in row.values]
    largest = max((size for size in sizes if 0 < size < math.inf), default=1.0)
    return min(8, max(2, 3 - math.floor(math.log10(largest))))


def _header(comparison: Comparison) -> list[str]:
    deltas = [f"{title} % ↑" for title in comparison.delta_m]
    return ["method", *(column.title for column in comparison.columns), *deltas, "mean rank ↓", *COSTS, "seeds"]


def _cells(row: Row, comparison: Comparison) -> list[str]:
    values = [
        row.values[column].text(_decimals(comparison.rows, column)) if column in row.values else EMPTY
        for column in comparison.columns
    ]
    deltas = [row.delta_m[title].text(2) if title in row.delta_m else EMPTY for title in comparison.delta_m]
    rank = EMPTY if row.mean_rank is None else f"{row.mean_rank:.2f}"
    costs = [f"{row.cost[title]:.2f}" if title in row.cost else EMPTY for title in COSTS]
    return [row.label, *values, *deltas, rank, *costs, row.seeds_text]


def to_markdown(comparison: Comparison) -> str:
    """The table and its footnotes as Markdown; a missing value is `-`."""
    header = _header(comparison)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *(_cells(row, comparison) for row in comparison.rows)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {note}" for note in comparison.footnotes) + "\n"


def to_rich(comparison: Comparison) -> "Table":
    """The table for a terminal, footnotes as its caption."""
    from rich.markup import escape
    from rich.table import Table

    notes = "\n".join(f"[{number}] {note}" for number, note in enumerate(comparison.footnotes, start=1))
    table = Table(caption=escape(notes), caption_justify="left", caption_style="")
    for index, title in enumerate(_header(comparison)):
        table.add_column(escape(title), justify="right" if index else "left")
    for row in comparison.rows:
        table.add_row(*map(escape, _cells(row, comparison)))
    return table


def to_csv(comparison: Comparison) -> str:
    """Rows for programs: per method its mean, its sd and every seed and lost run, in full precision.

    A missing value is an empty field here, so that columns stay numeric. The column `statistic` is `mean`, `sd` or
    `seed`; Delta_m is in percent, positive = better than single-task.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{column.task}/{column.metric}" for column in comparison.columns]
    end_titles = ["mean rank", *COSTS, "seeds", "diverged", "failed"]
    writer.writerow(["method", "statistic", "seed", "status", *columns, *comparison.delta_m, *end_titles])
    for row in comparison.rows:
        cells = [row.values.get(column) for column in comparison.columns]
        cells += [row.delta_m.get(title) for title in comparison.delta_m]
        end = [row.mean_rank, *(row.cost.get(title) for title in COSTS)]
        end += [len(row.seeds), row.count("diverged"), row.count("failed")]
        writer.writerow([row.label, "mean", None, None, *(cell and cell.mean for cell in cells), *end])
        writer.writerow([row.label, "sd", None, None, *(cell and cell.sd for cell in cells)] + [None] * len(end))
        for seed, values in row.per_seed.items():
            deltas = [row.delta_per_seed.get(seed, {}).get(title) for title in comparison.delta_m]
            seed_cells = [*(values.get(column) for column in comparison.columns), *deltas]
            writer.writerow([row.label, "seed", seed, "completed", *seed_cells] + [None] * len(end))
        for run in row.method.runs:
            if not run.completed:
                writer.writerow([row.label, "seed", run.seed, run.status] + [None] * (len(cells) + len(end)))
    return text.getvalue()
