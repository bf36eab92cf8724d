"""The comparison of methods: one row a method, every number with its spread, its count and what it means."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mtl.errors import UserError
from mtl.results.comparison import COSTS, Cell, Column, Comparison, Row
from mtl.results.delta_m import delta_m_metric_mean, delta_m_task_mean
from mtl.results.footnotes import data_text, footnotes
from mtl.results.methods import group_methods
from mtl.results.runs import Method, Run, mixed_data
from mtl.results.statistics import mean, mean_rank, sample_sd

_DELTAS = {"Delta_m (task mean)": delta_m_task_mean, "Delta_m (metric mean)": delta_m_metric_mean}


def compare(runs: Iterable[Run], *, split: str = "test", allow_mixed: bool = False) -> Comparison:
    """Compare methods by their final metrics on `split`; the order of `runs` does not matter.

    Args:
        runs: All runs of the experiment. Diverged and failed ones are counted and named, not averaged.
        split: Split of the metrics.
        allow_mixed: Accept runs of different settings (data, network, protocol) in one table; each method is then
            measured against the single-task runs of its own setting.

    Raises:
        UserError: There are no runs, settings or data are mixed, or runs disagree about a metric's direction.
    """
    ordered = sorted(runs, key=lambda run: str(run.path))
    if not ordered:
        raise UserError("A comparison needs at least one run. Found none. Train something first.")
    _check_settings(ordered, allow_mixed)
    _check_data(ordered, allow_mixed)
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
        if not method.runs[0].is_single_task and method.stands and columns and _complete(means[method.label], columns)
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
        if method.is_baseline and not deltas and not problems and _complete(means[method.label], columns):
            cells = {title: Cell(0.0, None, 0) for title in titles}  # by definition; no pairs of seeds for a spread
        values = _means(seeds, columns)
        rows.append(Row(method, values, cells, rank.get(method.label), _cost(method, columns), seeds, deltas))
    rows.sort(key=lambda row: _order(row, titles[0]))
    notes = footnotes(rows, columns, split, baselines, sorted(competitors), problems)
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


def _check_data(runs: Sequence[Run], allow_mixed: bool) -> None:
    mixed = mixed_data(runs)
    if mixed and not allow_mixed:
        raise UserError(
            f"One table should hold runs on the same data. Found {data_text(mixed[0])}\nRun one kind again, give the "
            "directory of the other, or say `allow_mixed=true`: runs on different data are then different rows."
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
    """Delta_m of each seed that has every column, against the mean single-task values.

    Empty without a baseline, and where a metric is undefined in the baseline or for a seed: what is left of a mean
    would not be comparable with other rows.
    """
    if not _complete({column: cell.mean for column, cell in baseline.items()}, columns):
        return {}
    if not all(math.isfinite(value) for values in per_seed.values() for value in values.values()):
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
    """Single-task, uniform, then the best Delta_m first, or the best mean rank without a baseline.

    Configurations that do not stand for their strategy come last.
    """
    strategy = row.method.runs[0].strategy
    group = (
        0 if row.method.is_baseline else 1 if row.method.runs[0].is_single_task else 2 if strategy == "uniform" else 3
    )
    group += 2 * (not row.method.stands) if group > 1 else 0
    delta = row.delta_m[title].mean if title in row.delta_m else math.nan
    rank = math.inf if row.mean_rank is None else row.mean_rank
    return group, math.inf if math.isnan(delta) else -delta, rank, row.label
