"""Time per step: of the clock, and computed by the processor, which other work on the machine does not lengthen."""

import math

from mtl.results.comparison import COSTS, Row
from mtl.results.report.material import Material
from mtl.results.runs import Run
from mtl.results.statistics import mean

WALL, CPU = "ms per step", "CPU ms per step"


def cpu_times(material: Material) -> dict[str, float]:
    """Label -> milliseconds that all threads computed per training step, the networks of a single-task row added up.

    A row is there if all its completed runs trained on a CPU and recorded it.
    """
    found = {row.label: _cpu(row) for row in material.rows if row.cost.get(COSTS[0])}
    return {label: time for label, time in found.items() if time is not None}


def step_times(material: Material) -> tuple[str, dict[str, float]]:
    """What methods are compared by, and label -> time: `CPU` if every row has it, `WALL` otherwise."""
    wall = {row.label: row.cost[COSTS[0]] for row in material.rows if row.cost.get(COSTS[0], 0) > 0}
    cpu = cpu_times(material)
    return (CPU, cpu) if cpu and cpu.keys() == wall.keys() else (WALL, wall)


def _cpu(row: Row) -> float | None:
    parts: dict[tuple[str, ...], list[float]] = {}
    for run in row.method.completed:
        time = _cpu_of(run)
        if time is None:
            return None
        parts.setdefault(tuple(run.tasks), []).append(time)
    return math.fsum(mean(part) for part in parts.values()) or None


def _cpu_of(run: Run) -> float | None:
    seconds = run.cost.get("train_cpu_seconds")
    return 1000 * seconds / run.steps if seconds and run.steps and run.device == "cpu" else None
