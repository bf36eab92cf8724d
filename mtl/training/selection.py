"""Which evaluation a run reports."""

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
        rule: `last` evaluation; `best_val`: highest `validation_score`, the earliest of equals; `mean_last_10`: mean of
            the last ten evaluations.
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
        chosen = max(history, key=lambda entry: validation_score(entry["metrics"], specs))
    return chosen["metrics"], chosen["epoch"]


def validation_score(metrics: Metrics, specs: Sequence[TaskSpec]) -> float:
    """Mean over tasks of the primary validation metric, signed so that higher is better."""
    total = 0.0
    for spec in specs:
        value = metrics["val"][spec.name][spec.primary_metric]
        total += value if spec.higher_is_better(spec.primary_metric) else -value
    return total / len(specs)
