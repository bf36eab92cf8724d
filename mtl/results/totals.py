"""What a row of a table cost: totals over whole runs."""

import math
from collections.abc import Sequence

from mtl.results.choice import Chosen
from mtl.results.statistics import mean

SUMMED = {
    "optimizer steps": "optimizer_steps",
    "backbone backwards": "backbone_backwards",
    "seconds": "train_seconds",
    "CPU seconds": "train_cpu_seconds",
}
"""Title -> field of a run's cost, added up over the networks of a single-task row."""
STEPS, MEMORY = "steps", "peak MiB"
COSTS = (STEPS, *SUMMED, MEMORY)


def totals(chosen: Sequence[Chosen]) -> dict[str, float]:
    """Totals, mean over the completed runs of each task selection; sums over selections, the largest for memory."""
    parts: list[dict[str, float]] = []
    for one in chosen:
        done = [run for run in one.runs if run.completed]
        if not done:
            return {}
        part = {STEPS: mean([run.steps for run in done])}
        part |= {
            t: mean([run.cost[k] for run in done]) for t, k in SUMMED.items() if all(k in run.cost for run in done)
        }
        if all("peak_memory_bytes" in run.cost for run in done):
            part[MEMORY] = max(run.cost["peak_memory_bytes"] for run in done) / 2**20
        parts.append(part)
    return {
        title: (max if title == MEMORY else math.fsum)([part[title] for part in parts])
        for title in COSTS
        if parts and all(title in part for part in parts)
    }
