"""One pass over the records of a method's runs: everything that the charts of the report show."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl.results.report.series import Series, Trace, at_recorded, in_bins
from mtl.results.runs import Method, Run
from mtl.results.statistics import mean

Matrix = tuple[tuple[float | None, ...], ...]
"""Task by task; None where nothing was measured."""


@dataclass(frozen=True)
class Record:
    """What the completed runs of a method recorded.

    Attributes:
        tasks: Names in the order of the matrices; of a single-task method empty.
        curves: Task -> primary metric on one split over epochs.
        weights: Task -> share of the sum of absolute task weights, over steps.
        raw_weights: Task -> weight as recorded.
        scalars: Name -> diagnostic over steps; see `SCALARS`.
        group_count: Number of groups over steps.
        together: Share of recorded steps in which two tasks are in one group.
        affinity: Effect of the source (row) on the target (column): mean over runs of the last measurement.
        cosines: Mean cosine of two task gradients over the last third of the records.
        update_share: Layer -> task -> share of the update, over the last third.
    """

    tasks: tuple[str, ...] = ()
    curves: Mapping[str, Series] = field(default_factory=dict)
    weights: Mapping[str, Series] = field(default_factory=dict)
    raw_weights: Mapping[str, Series] = field(default_factory=dict)
    scalars: Mapping[str, Series] = field(default_factory=dict)
    group_count: Series = ()
    together: Matrix | None = None
    affinity: Matrix | None = None
    cosines: Matrix | None = None
    update_share: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass
class _RunRecord:
    """One run while it is read: name -> step -> value."""

    run: Run
    curves: dict[str, dict[float, float]] = field(default_factory=dict)
    values: dict[tuple[str, str], dict[float, float]] = field(default_factory=dict)
    groups: dict[float, list[list[str]]] = field(default_factory=dict)
    cosines: dict[float, Any] = field(default_factory=dict)
    shares: dict[float, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    affinity: Any = None

    def add(self, kind: str, name: str, step: float, value: Any) -> None:
        """Keep a finite number."""
        if isinstance(value, int | float) and math.isfinite(value):
            self.values.setdefault((kind, name), {})[step] = float(value)


def read_records(method: Method, split: str) -> Record:
    """Read the records of a method's completed runs.

    Raises:
        RunDirectoryError: A completed run has no readable record.
    """
    runs = [_read(run, split) for run in method.completed]
    if not runs:
        return Record()
    tasks = tuple(dict.fromkeys(task for one in runs for task in one.run.tasks))
    curves = {task: at_recorded([one.curves[task] for one in runs if task in one.curves]) for task in tasks}
    curves = {task: series for task, series in curves.items() if series}
    if method.runs[0].is_single_task:
        return Record(curves=curves)

    def traces(kind: str) -> dict[str, list[Trace]]:
        found: dict[str, list[Trace]] = {}
        for one in runs:
            for (what, name), trace in one.values.items():
                if what == kind:
                    found.setdefault(name, []).append(trace)
        return found

    scalars = {name: in_bins(same) for name, same in traces("scalar").items()}
    raw, shares = traces("weight"), traces("share")
    grouped = [one for one in runs if one.groups]
    return Record(
        tasks,
        curves,
        {task: in_bins(shares[task]) for task in tasks if task in shares},
        {task: in_bins(raw[task]) for task in tasks if task in raw},
        scalars,
        in_bins([{step: len(groups) for step, groups in one.groups.items()} for one in grouped]),
        _mean_matrix([_together(one.groups, tasks) for one in grouped]),
        _mean_matrix([one.affinity for one in runs if one.affinity is not None]),
        _mean_matrix([_mean_matrix(_last_third(one.cosines)) for one in runs if one.cosines]),
        _mean_shares([share for one in runs for share in _last_third(one.shares)]),
    )


def _read(run: Run, split: str) -> _RunRecord:
    found = _RunRecord(run)
    primary = {task: name for task, metrics in run.tasks.items() for name, info in metrics.items() if info.primary}
    for event in run.events("evaluation", "step", "diagnostics"):
        if event["event"] == "evaluation":
            metrics = (event.get("metrics") or {}).get(split) or {}
            for task, name in primary.items():
                value = (metrics.get(task) or {}).get(name)
                if value is not None:
                    found.curves.setdefault(task, {})[event["epoch"]] = float(value)
        elif not run.is_single_task:
            _take_step(found, event)
    return found


def _take_step(found: _RunRecord, event: Mapping[str, Any]) -> None:
    """What a `step` or a `diagnostics` event says about weights, conflicts and groups."""
    step, tasks = event["step"], list(found.run.tasks)
    weights = event.get("weights") or {}
    total = math.fsum(abs(value) for value in weights.values() if value is not None)
    for task, value in weights.items():
        found.add("weight", task, step, value)
        if total and value is not None:
            found.add("share", task, step, abs(value) / total)
    norms = [value for value in (event.get("gradient_norms") or {}).values() if value is not None]
    if len(norms) == len(tasks) and min(norms) > 0:
        name = "norm_ratio" if event["event"] == "diagnostics" else "own_norm_ratio"
        found.add("scalar", name, step, math.log10(max(norms) / min(norms)))
    if event.get("groups"):
        found.groups[step] = event["groups"]
    extra = event if event["event"] == "diagnostics" else {}
    if extra.get("cosines"):
        found.cosines[step] = extra["cosines"]
        found.add("scalar", "mean_cosine", step, _mean_pair(extra["cosines"]))
    if extra.get("magnitude_similarity"):
        found.add("scalar", "magnitude_similarity", step, _mean_pair(extra["magnitude_similarity"]))
    if extra.get("conflict_rate") is not None:
        found.add("scalar", "conflict_rate", step, 100 * extra["conflict_rate"])
    for name in ("condition_number", "update_norm"):
        if (extra.get(name) or 0) > 0:
            found.add("scalar", name, step, math.log10(extra[name]))
    found.add("scalar", "angle_to_uniform", step, extra.get("angle_to_uniform"))
    if extra.get("path_length") and extra.get("displacement"):
        found.add("scalar", "path_ratio", step, extra["path_length"] / extra["displacement"])
    if extra.get("update_share"):
        found.shares[step] = extra["update_share"]
    if extra.get("affinity"):
        found.affinity = extra["affinity"]
    named = {key: value for key, value in (event.get("diagnostics") or {}).items() if key.startswith("affinity/")}
    if named:
        found.affinity = [[named.get(f"affinity/{source}->{target}") for target in tasks] for source in tasks]


def _mean_pair(matrix: Sequence[Sequence[float | None]]) -> float | None:
    """Mean of the entries above the diagonal."""
    values = [value for i, row in enumerate(matrix) for value in row[i + 1 :] if value is not None]
    return mean(values) if values else None


def _last_third(records: Mapping[float, Any]) -> list[Any]:
    steps = sorted(records)
    return [records[step] for step in steps[len(steps) * 2 // 3 :]]


def _together(groups: Mapping[float, Sequence[Sequence[str]]], tasks: Sequence[str]) -> Matrix:
    """Share of records in which two tasks are in one group; on the diagonal: in which a task is in any."""
    counts = {(a, b): 0 for a in tasks for b in tasks}
    for record in groups.values():
        for pair in {(a, b) for group in record for a in group for b in group} & counts.keys():
            counts[pair] += 1
    return tuple(tuple(counts[a, b] / len(groups) for b in tasks) for a in tasks)


def _mean_matrix(matrices: Sequence[Any]) -> Matrix | None:
    """Entry by entry, of the matrices that have it."""
    if not matrices:
        return None
    size = len(matrices[0])

    def entry(i: int, j: int) -> float | None:
        values = [matrix[i][j] for matrix in matrices if matrix[i][j] is not None]
        return mean(values) if values else None

    return tuple(tuple(entry(i, j) for j in range(size)) for i in range(size))


def _mean_shares(records: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for layer, shares in record.items():
            for task, share in shares.items():
                if share is not None:
                    values.setdefault(layer, {}).setdefault(task, []).append(share)
    return {layer: {task: mean(same) for task, same in tasks.items()} for layer, tasks in values.items()}
