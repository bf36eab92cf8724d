"""Which evaluation a run reports."""

import math
from collections.abc import Sequence
from typing import Any

from mtl.errors import ConfigError
from mtl.tasks import TaskSpec

Metrics = dict[str, dict[str, dict[str, float]]]
"""Split -> task -> metric -> value."""


def check_selection(rule: str, has_validation: bool) -> None:
    """Refuse a rule that the protocol cannot follow."""
    if rule == "best_val" and not has_validation:
        raise ConfigError(
            "`trainer.selection = best_val` needs a validation split; this data set has none in this protocol. "
            "Use `trainer.selection=last` or `mean_last_10`, or give it one (for example dataset.val_size=10000). "
            "Selecting on the test split is not offered."
        )


def select(rule: str, history: Sequence[dict[str, Any]], specs: Sequence[TaskSpec]) -> tuple[Metrics, int | None]:
    """The reported metrics and their epoch (None for a mean).

    Args:
        rule: `last` evaluation; `best_val`: highest `validation_score`, the earliest of equals, and the last evaluation
            where none has a score; `mean_last_10`: mean of the last ten evaluations.
        history: Evaluations in order, each with `epoch` and `metrics`.
        specs: The tasks.
    """
    if not history:
        return {}, None
    if rule == "mean_last_10":
        last: list[Metrics] = [entry["metrics"] for entry in history[-10:]]
        mean = {
            split: {
                task: {name: sum(entry[split][task][name] for entry in last) / len(last) for name in metrics}
                for task, metrics in tasks.items()
            }
            for split, tasks in last[-1].items()
        }
        return mean, None
    chosen = history[-1]
    if rule == "best_val":
        scored = scored_tasks(history, specs)
        scores = [validation_score(entry["metrics"], scored) for entry in history]
        known = {number: score for number, score in enumerate(scores) if score is not None}
        chosen = history[max(known, key=lambda number: known[number])] if known else chosen
    return chosen["metrics"], chosen["epoch"]


def scored_tasks(history: Sequence[dict[str, Any]], specs: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """The tasks whose primary validation metric is a finite number in at least one evaluation.

    A metric can be undefined on a whole split (no true positive, no valid pixel). Such a task says nothing about which
    evaluation is best, so it is left out of the score of all of them.
    """
    return tuple(spec for spec in specs if any(math.isfinite(_primary(entry["metrics"], spec)) for entry in history))


def validation_score(metrics: Metrics, specs: Sequence[TaskSpec]) -> float | None:
    """Mean over tasks of the primary validation metric, signed so that higher is better.

    None, which is never chosen, if one of them is not a finite number, or without tasks.
    """
    values = [_primary(metrics, spec) * (1 if spec.higher_is_better(spec.primary_metric) else -1) for spec in specs]
    return sum(values) / len(values) if values and all(map(math.isfinite, values)) else None


def describe_selection(
    rule: str, history: Sequence[dict[str, Any]], specs: Sequence[TaskSpec]
) -> tuple[Metrics, dict[str, Any]]:
    """The reported metrics, and for the summary how they were chosen.

    The second holds `rule`, `epoch`, `validation_score` (None without a validation split or where it is undefined),
    `undefined_tasks`, left out of the score as in `scored_tasks`, and `undefined_evaluations`, the number of those that
    could not be chosen because a task that has a score elsewhere has none there.
    """
    metrics, epoch = select(rule, history, specs)
    found: dict[str, Any] = {"rule": rule, "epoch": epoch, "validation_score": None}
    if "val" not in metrics:
        return metrics, found
    scored = scored_tasks(history, specs)
    found["validation_score"] = validation_score(metrics, scored)
    found["undefined_tasks"] = [spec.name for spec in specs if spec not in scored]
    found["undefined_evaluations"] = sum(validation_score(entry["metrics"], scored) is None for entry in history)
    return metrics, found


def _primary(metrics: Metrics, spec: TaskSpec) -> float:
    return metrics["val"][spec.name][spec.primary_metric]
