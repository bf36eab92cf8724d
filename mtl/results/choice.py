"""Which candidate of a row is reported: learning rate and options are chosen on validation, never by test."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mtl.results.plan import PlannedRun
from mtl.results.runs import Run
from mtl.results.statistics import mean


@dataclass(frozen=True)
class Chosen:
    """The runs of a row (of one task, for single-task training) after the choice on validation.

    Attributes:
        choice: What was chosen, as text; empty if there was one candidate without a tuned key.
        runs: All runs of the chosen candidate, lost ones included.
        candidates: Number of candidates with runs.
        planned: Number of candidates that the sweep has.
        complete: Whether every run that the choice needs, and every one of what was chosen, is there.
        note: What has to be said about it.
        compared: Number of candidates that the choice was among: those with the most completed seeds.
        seeds: Seeds whose validation scores made the choice; empty where nothing was chosen.
        lost: Number of runs of the other candidates that did not complete.
        undefined: Number of compared candidates that could not be chosen, because a validation metric is undefined.
    """

    choice: str
    runs: tuple[Run, ...]
    candidates: int
    planned: int
    complete: bool
    note: str = ""
    compared: int = 1
    seeds: tuple[int, ...] = ()
    lost: int = 0
    undefined: int = 0


def choose_row(jobs: Sequence[PlannedRun], runs: Sequence[Run], choose_on: Collection[int] = ()) -> tuple[Chosen, ...]:
    """The choice on validation for the jobs of one row: one entry a task selection that has runs."""
    found = []
    for tasks in dict.fromkeys(job.tasks for job in jobs):
        same = [job for job in jobs if job.tasks == tasks]
        candidates: dict[str, list[Run]] = {}
        for job in same:
            candidates.setdefault(job.config_hash, []).extend(run for run in runs if job.is_made_by(run))
        texts = {job.config_hash: job.choice for job in same}
        complete = all(job.has(runs) for job in needed(same, runs, choose_on))
        filled = {texts[key]: found for key, found in candidates.items() if found}
        one = choose(filled, len(candidates), complete, choose_on)
        if one is not None:
            found.append(one)
    return tuple(found)


def needed(jobs: Sequence[PlannedRun], runs: Sequence[Run], choose_on: Collection[int] = ()) -> list[PlannedRun]:
    """The jobs that a table asks for.

    All of them; or, where candidates are compared on the seeds `choose_on`, those of these seeds, and for each row
    and task selection whose comparison is complete the other seeds of the chosen candidate.
    """
    if not choose_on:
        return list(jobs)
    wanted: list[PlannedRun] = []
    groups: dict[tuple[str, str], list[PlannedRun]] = {}
    for job in jobs:
        groups.setdefault((job.row, job.tasks), []).append(job)
    for same in groups.values():
        first = [job for job in same if job.seed in choose_on]
        wanted += first
        if all(job.has(runs) for job in first):
            candidates = {job.choice: [run for run in runs if job.config_hash == run.config_hash] for job in first}
            one = choose(candidates, len(candidates), complete=True, choose_on=choose_on)
            wanted += [job for job in same if job not in first and one and not one.note and job.choice == one.choice]
    return wanted


def choose(
    candidates: Mapping[str, list[Run]], planned: int, complete: bool, choose_on: Collection[int] = ()
) -> Chosen | None:
    """The candidate with the best validation score, among those with the most completed seeds. Never by test.

    One with an undefined validation metric, where others are defined, cannot be chosen.

    Args:
        candidates: Choice as text -> runs.
        planned: Number of candidates that there should be.
        complete: Whether all runs are there.
        choose_on: The only seeds that count for the choice; empty for all.
    """
    if not candidates:
        return None
    scored = {
        key: [run for run in runs if run.completed and (not choose_on or run.seed in choose_on)]
        for key, runs in candidates.items()
    }
    seeds = {key: {run.seed for run in runs} for key, runs in scored.items()}
    most = max(map(len, seeds.values()))
    eligible = [key for key in candidates if len(seeds[key]) == most]
    compared, undefined, note = len(eligible), 0, ""
    if len(eligible) > 1 and most:
        scores = _without_units({key: _scores(scored[key]) for key in eligible})
        tasks = {task for values in scores.values() for task, value in values.items() if math.isfinite(value)}
        found = {key: mean([values.get(task, math.nan) for task in tasks]) for key, values in scores.items() if tasks}
        known = {key: value for key, value in found.items() if math.isfinite(value)}
        undefined = len(eligible) - len(known)
        if not known:
            note = "no validation metrics, or undefined ones, so nothing could be chosen"
            return Chosen("", (), len(candidates), planned, complete, note, compared)
        eligible = [max(known, key=lambda key: known[key])]
    elif len(eligible) > 1:
        note = "no candidate has a completed run"
    runs = tuple(candidates[eligible[0]]) if not note else tuple(run for same in candidates.values() for run in same)
    choice, by = (eligible[0], tuple(sorted(seeds[eligible[0]]))) if not note else ("", ())
    by = by if len(candidates) > 1 else ()
    lost = sum(not run.completed for same in candidates.values() for run in same) - sum(not r.completed for r in runs)
    return Chosen(choice, runs, len(candidates), planned, complete, note, compared, by, lost, undefined)


def _without_units(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Each task's scores divided by their mean size over the candidates, so that no unit outweighs another in a sum.

    mIoU in percent, depth in metres and angles in degrees cannot be added. A size of 0 (all candidates score 0) stays.
    """
    sizes: dict[str, list[float]] = {}
    for values in scores.values():
        for task, value in values.items():
            if math.isfinite(value):
                sizes.setdefault(task, []).append(abs(value))
    scale = {task: mean(found) or 1.0 for task, found in sizes.items()}
    return {key: {task: value / scale.get(task, 1.0) for task, value in one.items()} for key, one in scores.items()}


def _scores(runs: Sequence[Run]) -> dict[str, float]:
    """Task -> mean over seeds of its primary validation metric, higher = better; NaN if undefined for a seed.

    Repeats of a seed are averaged first, so that every seed counts once. A task that is undefined for every candidate
    says nothing about which is best, and is left out by the caller.
    """
    values: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        if run.completed:
            for task, infos in run.tasks.items():
                for name, info in infos.items():
                    if info.primary:
                        value = run.value("val", task, name)
                        signed = math.nan if value is None else value if info.higher_is_better else -value
                        values.setdefault(task, {}).setdefault(run.seed, []).append(signed)
    return {task: mean([mean(same) for same in seeds.values()]) for task, seeds in values.items()}
