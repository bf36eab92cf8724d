"""Equal-budget views: what a run had reached within a number of optimizer steps, or within a training time.

A sequential method takes several optimizer steps a batch, others several backwards: equal epochs are not equal budgets.
A run's steps and seconds at an evaluation are its totals times the share of batches done (both are spent evenly).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.results.runs import Run
from mtl.results.statistics import mean

SECONDS, CPU_SECONDS = "training seconds", "CPU seconds of training"
BUDGETS = {"optimizer steps": "optimizer_steps", SECONDS: "train_seconds", CPU_SECONDS: "train_cpu_seconds"}
"""Title -> field of a run's cost."""
MOST_UNEVEN = 1.5
"""Where seconds per CPU second of runs differ by more than this factor, equal seconds were not equal budgets."""


def spent(run: Run, budget: str) -> float | None:
    """Total of a budget that a run used; None if its summary does not say."""
    value = run.cost.get(BUDGETS[budget])
    return None if value is None or not run.steps else float(value)


def uneven_seconds(runs: Sequence[Run]) -> float | None:
    """How unevenly seconds passed: the largest over the smallest ratio of seconds to CPU seconds; None if unknown."""
    ratios = []
    for run in runs:
        wall, cpu = spent(run, SECONDS), spent(run, CPU_SECONDS)
        if not wall or not cpu:
            return None
        ratios.append(wall / cpu)
    return max(ratios) / min(ratios) if ratios else None


def common_budget(runs: Sequence[Run], budget: str) -> float | None:
    """The largest budget that every run spent; None without runs or if one does not say."""
    found = [spent(run, budget) for run in runs]
    known = [value for value in found if value is not None]
    return min(known) if known and len(known) == len(found) else None


def metrics_within(run: Run, budget: str, limit: float) -> Mapping[str, Mapping[str, Mapping[str, float]]] | None:
    """Metrics (split -> task -> metric) by the run's own selection rule among evaluations within the limit.

    Returns:
        None if no evaluation lies within the limit.
    """
    total = spent(run, budget)
    if total is None:
        return None
    reached = [
        event
        for event in run.events("evaluation")
        if total * event["step"] / run.steps <= limit * (1 + 1e-9) and event.get("metrics")
    ]
    if not reached:
        return None
    rule = run.selection.get("rule")
    if rule == "best_val":
        return dict(_best(run, [event["metrics"] for event in reached]))
    if rule == "mean_last_10":
        return _mean([event["metrics"] for event in reached[-10:]])
    return dict(reached[-1]["metrics"])


def _best(run: Run, entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry with the highest validation score, by the rule of training.

    A task without a defined metric in any entry is left out; an entry where another one's is undefined is not chosen;
    the last one stands if none can be.
    """
    primary = [(task, name, info) for task, infos in run.tasks.items() for name, info in infos.items() if info.primary]
    scored = [one for one in primary if any(entry["val"][one[0]][one[1]] is not None for entry in entries)]
    scores: dict[int, float] = {}
    for number, entry in enumerate(entries):
        signed = [(entry["val"][task][name], info.higher_is_better) for task, name, info in scored]
        if signed and all(value is not None for value, _ in signed):
            scores[number] = sum(value if higher else -value for value, higher in signed) / len(signed)
    return entries[max(scores, key=lambda number: scores[number])] if scores else entries[-1]


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    def average(split: str, task: str, name: str) -> float:
        values = [entry[split][task][name] for entry in entries]
        return float("nan") if None in values else mean(values)

    return {
        split: {task: {name: average(split, task, name) for name in metrics} for task, metrics in tasks.items()}
        for split, tasks in entries[-1].items()
    }
