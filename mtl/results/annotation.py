"""Delta_m of finished runs, for their W&B summaries. It is computed here, from run directories, and only sent there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl.results.runs import Run
from mtl.results.tables import compare

KEYS = {
    "Delta_m": "delta_m",
    "Delta_m (task mean)": "delta_m/task_mean",
    "Delta_m (metric mean)": "delta_m/metric_mean",
}
"""Title of a definition in tables -> name in a W&B summary."""


def find_deltas(runs: Sequence[Run], split: str = "test") -> dict[Path, Mapping[str, float]]:
    """Delta_m, percent, of every completed multi-task run, against the mean single-task values of its setting.

    Args:
        runs: All runs of the comparison, single-task runs among them.
        split: Split of the metrics.

    Returns:
        Run directory -> name in the summary -> value. A run without a complete baseline is not there.
    """
    found: dict[Path, Mapping[str, float]] = {}
    for row in compare(runs, split=split, allow_mixed=True).rows:
        if row.method.is_baseline:
            continue
        for run in row.method.completed:
            if run.seed in row.delta_per_seed:
                values = row.delta_per_seed[run.seed]
                found[run.path] = {KEYS[title]: value for title, value in values.items()}
    return found
