"""What has to stand below a table, so that its numbers can be defended."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mtl.results.comparison import Cell, Column, Row
from mtl.results.runs import Run, mixed_data
from mtl.results.statistics import TIE_RULE


def footnotes(
    rows: Sequence[Row],
    columns: Sequence[Column],
    split: str,
    baselines: Mapping[str, Mapping[Column, Cell]],
    competitors: Sequence[str],
    problems: Sequence[str],
) -> list[str]:
    """Notes on runs, sign and baseline, ranks, protocol and code version, in this order."""
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
    notes += [f"WARNING: {text}." for text in undefined(rows, columns)]
    partial = [row.label for row in rows if any(column not in row.values for column in columns)]
    if partial:
        notes.append(f"Without a value in every column, so without Delta_m and mean rank: {', '.join(partial)}.")
    absent = [row.label for row in rows if row.mean_rank is None]
    if competitors:
        notes.append(
            f"Mean rank: over all task metrics, 1 = best, ties get the {TIE_RULE} rank, competitors: "
            f"{', '.join(competitors)}. Not ranked: {', '.join(absent) or 'none'}."
        )
    notes += _notes_on_methods(rows)
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
        undefined_tasks = sorted({column.task for column, cell in baseline.items() if not math.isfinite(cell.mean)})
        if undefined_tasks:
            names = ", ".join(undefined_tasks)
            notes.append(f"WARNING: a single-task value of {names} is undefined, so Delta_m stays empty.")
    notes += [
        f"WARNING: no single-task runs of setting {setting[:6]}, so its Delta_m stays empty."
        for setting in sorted(set(settings) - set(baselines))
    ]
    return notes + [f"WARNING: {problem}" for problem in problems]


def undefined(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Which cells are not numbers because a metric is undefined for some seed, with the count of such seeds."""
    found = []
    for row in rows:
        counts = {
            f"{column.task} {column.metric}": sum(
                not math.isfinite(seed.get(column, 0.0)) for seed in row.per_seed.values()
            )
            for column in columns
        }
        found += undefined_text(row.label, counts, len(row.per_seed))
    return found


def undefined_text(label: str, counts: Mapping[str, int], seeds: int) -> list[str]:
    """What a row says about its undefined metrics; nothing if there are none.

    Args:
        label: Name of the row.
        counts: Metric -> number of seeds where it is undefined.
        seeds: Number of seeds of the row.
    """
    bad = ", ".join(f"{name} ({count} of {seeds} seeds)" for name, count in counts.items() if count)
    return [f"{label} has undefined metrics, so no mean of them, no Delta_m and no mean rank: {bad}"] if bad else []


def data_text(runs: Sequence[Run]) -> str:
    """Which fingerprints of the data there are among runs of one setting and task selection."""
    counts = Counter(run.data for run in runs)
    lines = [
        f"  {data[:12]}: {count} runs, e.g. {next(run.path for run in runs if run.data == data)}"
        for data, count in sorted(counts.items())
    ]
    return f"{len(counts)} fingerprints of the data of {', '.join(runs[0].tasks)}:\n" + "\n".join(lines)


def undefined_on_validation(runs: Sequence[Run]) -> list[str]:
    """What the choice of an evaluation on validation had to leave out."""
    chosen = [run for run in runs if run.selection.get("rule") == "best_val"]
    tasks = Counter(task for run in chosen for task in run.selection.get("undefined_tasks", ()))
    lost = sum(int(run.selection.get("undefined_evaluations", 0)) for run in chosen)
    found = []
    if tasks:
        names = ", ".join(f"{task} ({count} runs)" for task, count in sorted(tasks.items()))
        found.append(f"best_val chose without tasks whose validation metric is undefined: {names}")
    if lost:
        found.append(f"best_val could not choose {lost} evaluations whose validation metrics are undefined")
    return found


def _notes_on_methods(rows: Sequence[Row]) -> list[str]:
    """Optimizers, options that tell rows of one strategy apart, and what a strategy wants said beside its numbers."""
    by_optimizer: dict[str, list[str]] = {}
    for row in rows:
        for text in sorted({_optimizer(run) for run in row.method.runs}):
            by_optimizer.setdefault(text, []).append(row.label)
    notes = [
        f"Optimizer: {text}" + ("." if len(by_optimizer) == 1 else f": {', '.join(labels)}.")
        for text, labels in by_optimizer.items()
    ]
    same: dict[str, list[Row]] = {}
    for row in rows:
        same.setdefault(row.method.runs[0].strategy if not row.method.runs[0].is_single_task else "", []).append(row)
    for strategy, group in same.items():
        if strategy and len(group) > 1:
            flat = {row.label: _flatten(row.method.runs[0].options.get("strategy", {})) for row in group}
            keys = sorted({key for one in flat.values() for key in one})
            for label, one in flat.items():
                differing = [
                    f"{key}={one.get(key)}" for key in keys if len({str(o.get(key)) for o in flat.values()}) > 1
                ]
                notes += [f"{label}: {', '.join(differing)}."] if differing else []
    noted = {row.label: row.method.runs[0].note for row in rows if row.method.runs[0].note}
    return notes + [f"{label}: {note}." for label, note in noted.items()]


def _optimizer(run: Run) -> str:
    options = {key: value for key, value in dict(run.options.get("optimizer", {})).items() if not key.startswith("_")}
    return f"{run.optimizer or 'unknown'} ({', '.join(f'{key} {value}' for key, value in options.items())})"


def _flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def _notes_on_protocol(runs: Sequence[Run]) -> list[str]:
    def listing(values: Iterable[str]) -> str:
        counts = Counter(values)
        return (
            ", ".join(counts)
            if len(counts) == 1
            else ", ".join(f"{key} ({counts[key]} runs)" for key in sorted(counts))
        )

    done = [run for run in runs if run.completed]
    data = {run.data_note for run in runs}
    notes = [f"Data: {listing(run.data_note or 'official' for run in runs)}."] if data != {""} else []
    if len(data) > 1:
        notes.append("WARNING: runs on differently prepared data are mixed; they are not comparable.")
    notes += [f"WARNING: data are mixed (allow_mixed=true): {data_text(same)}" for same in mixed_data(runs)]
    notes += [f"Selection rule: {listing(str(run.selection.get('rule', 'unknown')) for run in runs)}."]
    notes += [f"WARNING: {text}." for text in undefined_on_validation(runs)]
    if done:
        notes.append(f"Length of completed runs: {listing(f'{run.epochs} epochs, {run.steps} steps' for run in done)}.")
    machines = {f"{run.device or 'unknown device'}, {run.num_threads or 'unknown'} threads" for run in done}
    if len(machines) > 1:
        notes.append(f"WARNING: times are of different machines: {'; '.join(sorted(machines))}.")
    elif machines:
        notes.append(f"Times: {machines.pop()}.")
    commits = {str(run.git.get("commit") or "unknown")[:12] for run in runs}
    notes.append(f"Code: git {listing(str(run.git.get('commit') or 'unknown')[:12] for run in runs)}.")
    dirty = sum(bool(run.git.get("dirty")) for run in runs)
    if len(commits) > 1 or dirty:
        notes.append(
            f"WARNING: {len(commits)} commits, {dirty} of {len(runs)} runs from a tree with uncommitted changes: "
            "differences between rows may come from the code."
        )
    packages = sorted({(name, files) for run in runs for name, files in run.plugins.items()})
    if packages:
        several = len(packages) > len({name for name, _ in packages})
        notes.append(
            f"{'WARNING: several versions of one of the packages' if several else 'Packages'} outside the framework, "
            f"by the digest of their files: {', '.join(' '.join(pair) for pair in packages)}."
        )
    settings = Counter(run.setting_hash for run in runs)
    if len(settings) > 1:
        notes.append(
            f"WARNING: settings are mixed ({listing(run.setting_hash[:6] for run in runs)}): rows differ in data, "
            "network or protocol, and each is measured against the single-task runs of its own setting."
        )
    return notes
