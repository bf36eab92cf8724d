"""What has to stand below a table, so that its numbers can be defended."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from mtl.results.comparison import Cell, Column, Row
from mtl.results.runs import Run
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
