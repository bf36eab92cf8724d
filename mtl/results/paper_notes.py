"""What has to stand below a paper's table."""

import math
from collections import Counter
from collections.abc import Sequence

from mtl.results.assignment import code_version
from mtl.results.footnotes import undefined_on_validation, undefined_text
from mtl.results.noise import ALPHA, BOOTSTRAP_SEED, EXACT_SEEDS, RESAMPLES
from mtl.results.paper_table import PaperTable
from mtl.results.plan import PlannedRun
from mtl.results.runs import Run
from mtl.results.sections import seconds_note
from mtl.results.statistics import TIE_RULE


def notes(table: PaperTable, missing: Sequence[PlannedRun], commands: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Footnotes: warnings first, then runs, signs, statistics, protocol, source.

    Args:
        table: The table.
        missing: Jobs without a run.
        commands: That make the single-task runs that are missing.
        extra: Overrides that the table was asked for with; a deviation from its protocol.
    """
    result = [f"WARNING: {text}" for text in table.assignment.warnings]
    if extra:
        result.append(f"WARNING: not the protocol of this table, but with {' '.join(extra)}.")
    result += [f"WARNING: {problem}" for problem in table.problems]
    result += [f"WARNING: {text}." for text in _undefined(table)]
    result += _runs(table, missing)
    result += _baseline(table, missing, commands)
    result += table.assignment.notes
    result += _reading(table)
    result += [f"Protocol, {who}: {note}" for who, lines in table.definition.protocol.items() for note in lines]
    result += _source(table)
    return result


def _runs(table: PaperTable, missing: Sequence[PlannedRun]) -> list[str]:
    runs = table.assignment.used
    result = []
    if not runs:
        return ["No runs of this table: ours stays empty."]
    for row in table.rows:
        result += [
            f"WARNING: {row.label}, seed {run.seed}, {run.status} and is in no mean: {run.message or 'no message'} "
            f"({run.path})"
            for run in row.runs
            if not run.completed
        ]
        incomplete = [one for one in row.chosen if not one.complete]
        if incomplete:
            count = sum(job.row == row.definition.label for job in missing)
            result.append(
                f"WARNING: {row.label}: {count} of its runs are missing, so its choice on validation is provisional."
            )
        result += [f"WARNING: {row.label}: {one.note}." for one in row.chosen if one.note]
        result += [
            f"WARNING: {row.label}: only {one.compared} of {one.candidates} candidates had the most completed seeds; "
            "the choice was among them."
            for one in row.chosen
            if one.seeds and one.compared < one.candidates
        ]
        result += [
            f"WARNING: {row.label}: {one.undefined} of {one.compared} candidates have an undefined validation metric "
            "and could not be chosen."
            for one in row.chosen
            if one.undefined
        ]
        result += [f"{'WARNING: ' if differ else ''}{row.label}: {text}." for text, differ in _repeats(row.runs)]
        result += [
            f"{row.label}: {one.lost} runs of candidates that were not chosen did not complete."
            for one in row.chosen
            if one.lost
        ]
    status = Counter(run.status for run in runs)
    lengths = Counter(f"{run.epochs} epochs, {run.steps} steps" for run in runs if run.completed)
    result.append(
        f"Ours: {len(runs)} runs ({', '.join(f'{count} {key}' for key, count in sorted(status.items()))}), split "
        f"{table.definition.split}; mean ± sample standard deviation over seeds; length {_listing(lengths)}."
    )
    data = Counter(run.data_note or "official" for run in runs)
    result += [f"Data: {_listing(data)}."] if set(data) != {"official"} else []
    rules = Counter(str(run.selection.get("rule", "unknown")) for run in runs if run.selection)
    result.append(f"Selection rule of the epoch: {_listing(rules)}.")
    result += [f"WARNING: {text}." for text in undefined_on_validation(runs)]
    result.append(
        "Learning rate (and static weights): per method, and per task for single_task, best mean over tasks of the "
        f"primary metric on val, {_compared_on(table)}; never by test."
    )
    versions = Counter(code_version(run) for run in runs)
    result.append(f"Code: git {_listing(versions)}.")
    packages = Counter(f"{name} {files}" for run in runs for name, files in run.plugins.items())
    if packages:
        result.append(f"Packages outside the framework, by the digest of their files: {_listing(packages)}.")
    if any(version.endswith("+changes") for version in versions):
        result.append("WARNING: runs come from a tree with uncommitted changes; the commit does not say what ran.")
    machines = Counter(f"{run.device or 'unknown device'}, {run.num_threads or 'unknown'} threads" for run in runs)
    warning = "WARNING: times are of different machines: " if len(machines) > 1 else "Times: "
    result.append(f"{warning}{_listing(machines)}; training only, without evaluation.")
    if any("train_cpu_seconds" in run.cost for run in runs):
        result.append(
            "CPU seconds: processor time of all threads of the training process; they compare methods where other work "
            "on the machine stretches the seconds that pass."
        )
    result += [text] if (text := seconds_note(table)) else []
    rows_with_notes = {row.label: row.runs[0].note for row in table.rows if row.runs and row.runs[0].note}
    return result + [f"{label}: {note}." for label, note in rows_with_notes.items()]


def _undefined(table: PaperTable) -> list[str]:
    """Rows with undefined metrics, and the count of their seeds."""
    found = []
    for row in table.rows:
        counts = {
            column.title: sum(not math.isfinite(values.get(column.title, 0.0)) for values in row.per_seed.values())
            for column in table.columns
        }
        found += undefined_text(row.label, counts, len(row.per_seed))
    return found


def _repeats(runs: Sequence[Run]) -> list[tuple[str, bool]]:
    """What is to say about seeds that are there twice, and whether one code gave different results."""
    same: dict[tuple[tuple[str, ...], int], list[Run]] = {}
    for run in runs:
        if run.completed:
            same.setdefault((tuple(run.tasks), run.seed), []).append(run)
    again = {seed for (_, seed), found in same.items() if len(found) > 1}
    if not again:
        return []
    seeds = ", ".join(map(str, sorted(again)))
    result = [(f"runs of seed {seeds} are there more than once; they are averaged and count as one seed", False)]
    for found in same.values():
        by_code: dict[str, list[Run]] = {}
        for run in found:
            by_code.setdefault(f"{run.config_hash} {code_version(run)}", []).append(run)
        for repeats in by_code.values():
            if any(one.metrics != repeats[0].metrics for one in repeats):
                paths = ", ".join(str(one.path) for one in repeats)
                result.append((f"one configuration, seed and code, different results: {paths}", True))
    return result


def _compared_on(table: PaperTable) -> str:
    seeds = table.definition.choose_on
    if not seeds:
        return "mean over seeds, among candidates with the most completed seeds"
    return (
        f"on seed {', '.join(map(str, seeds))} alone, and only what was chosen was run with further seeds (a candidate "
        "that is best by luck on few seeds stays chosen)"
    )


def _listing(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{key} ({count} runs)" for key, count in sorted(counts.items()))


def _baseline(table: PaperTable, missing: Sequence[PlannedRun], commands: Sequence[str]) -> list[str]:
    single = next((row for row in table.rows if row.definition.is_single_task), None)
    if single is None or not table.assignment.used:
        return []
    lacking = [job for job in missing if job.row == single.definition.label]
    present = [f"{','.join(one.runs[0].tasks)} ({len(one.runs)} runs)" for one in single.chosen if one.runs]
    result = [f"Single-task baseline, found by configuration: {', '.join(present) or 'no runs, so no Delta_m'}."]
    if lacking:
        result.append(f"Single-task runs missing: {len(lacking)}. They are made by: {' ; '.join(commands)}")
    return result


def _reading(table: PaperTable) -> list[str]:
    result = [
        "Delta_m: percent, POSITIVE = better than single-task. task mean: every task counts the same; metric mean: "
        "every metric. Ours: each seed against the mean single-task values; its spread leaves out the baseline's own."
    ]
    if any(row.paper_delta_m for row in table.rows):
        result.append(
            "Delta_m of the paper: recomputed from its printed values and its own single-task row, in our sign; "
            "CAGrad, Nash-MTL, FAMO, FairGrad and SDMGrad print negative = better."
        )
    if table.competitors:
        result.append(
            f"Mean rank: over every task metric shown, 1 = best, ties get the {TIE_RULE} rank, competitors: "
            f"{', '.join(table.competitors)}."
        )
    if not table.assignment.used:
        return result
    result.append(
        "Verdict: larger = larger than seed noise (Student's t over seeds, two-sided, level "
        f"{ALPHA}); within = within seed noise; one seed, no spread (every seed differs by the same) = no verdict; "
        "equal = no difference in any seed. A published value counts as exact, unless "
        "it has an interval. No correction for the number of comparisons."
    )
    if table.paired:
        result.append(
            f"Bootstrap: paired over seeds, percentile, all n^n resamples up to {EXACT_SEEDS} seeds, else {RESAMPLES} "
            f"with seed {BOOTSTRAP_SEED}. For 2 or 3 seeds it only says whether all seeds agree in sign (by chance in "
            "50 % and 25 % of cases), so the verdict is by t. Seeds for 80 % power: if mean and spread are as observed."
        )
    if any(row.cost for row in table.rows if row.definition.is_single_task):
        result.append("Cost of single_task: the runs of its tasks added up; memory: the largest.")
    result.append("Peak memory on a CPU is that of the process, so of the largest job that it had done so far.")
    return result


def _source(table: PaperTable) -> list[str]:
    published = table.definition.published
    if published is None:
        return ["No published values: this protocol is our own."]
    result = [f"Paper: {published.source} (confidence: {published.confidence}). {published.note}".strip()]
    if published.empty_because:
        result.append(f"No published values: {published.empty_because}")
    unverified = [row.label for row in published.rows if not row.verified]
    if unverified:
        result.append(f"Published values not checked against their source: {', '.join(unverified)}.")
    return result
