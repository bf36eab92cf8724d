"""Run directories on disk, and the runs that make one row of a table."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.errors import RunDirectoryError

STATUSES = ("completed", "diverged", "failed")
SINGLE_TASK = "single_task"
_REQUIRED = {
    "status": str,
    "dataset": str,
    "strategy": str,
    "seed": int,
    "tasks": dict,
    "config_hash": str,
    "setting_hash": str,
}


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's values mean.

    Attributes:
        higher_is_better: Direction.
        primary: Whether it is the task's metric in figures and for model selection.
    """

    higher_is_better: bool
    primary: bool


@dataclass(frozen=True)
class Run:
    """One run directory; the attributes are the fields of its `summary.json`.

    Attributes:
        path: The run directory.
        tasks: Task -> metric -> MetricInfo, in task order.
        metrics: Split -> task -> metric -> value, by the run's selection rule; incomplete unless `status` is completed.
        cost: Totals over the run (counts, seconds, bytes); `step_seconds` is the mean per training step.
        options: Configuration of the strategy and the optimizer, as `strategy` and `optimizer`.
        note: What has to stand beside every number of the strategy.
        data_note: What has to stand beside every number on the data.
        data: Fingerprint of the data of the tasks trained; empty if unknown (older records, a run without data).
        config_hash: Hash of all that can move a number except the seed.
        setting_hash: As `config_hash`, without strategy, learning rate and task selection: runs that differ in it used
            other data, another network or another protocol.
        code: Digest of the code that the numbers come from; empty for runs older than that.
        recorded: Evaluation events of a run that comes from a file of runs (`mtl.results.records`); None for one that
            is read from its directory.
    """

    path: Path
    status: str
    dataset: str
    strategy: str
    seed: int
    tasks: Mapping[str, Mapping[str, MetricInfo]]
    config_hash: str
    setting_hash: str
    message: str | None = None
    experiment: str = ""
    backbone: str = ""
    heads: str = ""
    epochs: int = 0
    steps: int = 0
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    git: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    data_note: str = ""
    data: str = ""
    device: str = ""
    num_threads: int = 0
    recorded: tuple[Mapping[str, Any], ...] | None = None

    @property
    def num_tasks(self) -> int:
        """Number of tasks trained."""
        return len(self.tasks)

    @property
    def plugins(self) -> dict[str, str]:
        """Packages outside mtl that the run used -> digest of their Python files."""
        return {name: str(state["files"]) for name, state in (self.git.get("plugins") or {}).items()}

    @property
    def is_single_task(self) -> bool:
        """Whether exactly one task was trained."""
        return self.num_tasks == 1

    @property
    def completed(self) -> bool:
        """Whether the run came to its end, so that its metrics may be averaged."""
        return self.status == "completed"

    def value(self, split: str, task: str, metric: str) -> float | None:
        """A final metric; None if the run has not got it, NaN if it was written as null."""
        values = self.metrics.get(split, {}).get(task, {})
        if metric not in values:
            return None
        return float("nan") if values[metric] is None else float(values[metric])

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The events of these kinds from `metrics.jsonl`, read line by line; an incomplete last line is left out.

        Raises:
            RunDirectoryError: The file is missing, or a line before the last one is no JSON object.
        """
        if self.recorded is not None:
            yield from (dict(event) for event in self.recorded if event.get("event") in kinds)
            return
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            raise RunDirectoryError(f"{file} is missing. Run the configuration again, or leave this directory out.")
        with file.open(encoding="utf-8", errors="replace") as lines:
            broken = 0
            for number, line in enumerate(lines, start=1):
                if broken:
                    raise RunDirectoryError(
                        f"{file}, line {broken} is no JSON object. Restore the file or drop the run."
                    )
                try:
                    event = json.loads(line) if line.strip() else {}
                except json.JSONDecodeError:
                    event = None
                if not isinstance(event, dict):
                    broken = number
                elif event.get("event") in kinds:
                    yield event


def read_run(path: Path) -> Run:
    """Read one run directory.

    Raises:
        RunDirectoryError: `summary.json` is missing or was not written by this framework.
    """
    file = path / "summary.json"
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{file} cannot be read: {error}. Remove it or run the configuration again.") from error
    return parse_run(summary, path, str(file))


def parse_run(summary: Any, path: Path, file: str) -> Run:
    """A run from its summary.

    Args:
        summary: What `summary.json` holds.
        path: The run directory.
        file: Where it was read, for messages.

    Raises:
        RunDirectoryError: It was not written by this framework.
    """
    remedy = "Only summaries written by `scripts/train.py` can be read: move this file elsewhere, or run again."
    if not isinstance(summary, dict):
        raise RunDirectoryError(f"{file} should hold a JSON object. Found a {type(summary).__name__}. {remedy}")
    for key, kind in _REQUIRED.items():
        if not isinstance(summary.get(key), kind):
            found = repr(summary[key]) if key in summary else "none"
            raise RunDirectoryError(
                f"{file} should have a field `{key}` of type {kind.__name__}. Found {found}. {remedy}"
            )
    if summary["status"] not in STATUSES or (summary["status"] == "completed" and not summary["tasks"]):
        raise RunDirectoryError(
            f"{file} should have a `status` of {', '.join(STATUSES)} and, if completed, at least one task. "
            f"Found status {summary['status']!r} and tasks {list(summary['tasks'])}. {remedy}"
        )
    try:
        tasks = {
            task: {name: MetricInfo(info["higher_is_better"], info["primary"]) for name, info in metrics.items()}
            for task, metrics in summary["tasks"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{file}: `tasks` lacks {error} for a metric. {remedy}") from error
    known = {key: value for key, value in summary.items() if key in Run.__dataclass_fields__ and value is not None}
    return Run(**{**known, "path": path, "tasks": tasks})


def load_runs(root: Path) -> list[Run]:
    """All runs below `root` (or `root` itself), sorted by path.

    Raises:
        RunDirectoryError: There is none, or a summary was not written by this framework.
    """
    files = sorted(root.rglob("summary.json"))
    if not files:
        what = "holds no `summary.json`" if root.is_dir() else "is no directory"
        raise RunDirectoryError(
            f"Found no runs: {root} {what}. Give the directory above your runs, or run `scripts/train.py` first."
        )
    return [read_run(file.parent) for file in files]


@dataclass(frozen=True)
class Method:
    """Runs that make one row of a table: equal but for the seed, or the single-task runs of all tasks.

    Attributes:
        label: Name in tables and figures, unique among the methods of one comparison.
        runs: Sorted by path; diverged and failed ones included.
        is_baseline: Whether it is the single-task row of its setting.
        note: Where the label stands for more than it says; empty otherwise.
        stands: Whether it stands for its strategy: False for candidates that were not chosen, and for all of them if
            none could be.
        unsettled: Why no configuration of its strategy could be chosen; empty otherwise.
    """

    label: str
    runs: tuple[Run, ...]
    is_baseline: bool = False
    note: str = ""
    stands: bool = True
    unsettled: str = ""

    @property
    def completed(self) -> tuple[Run, ...]:
        """The runs that enter means."""
        return tuple(run for run in self.runs if run.completed)


def mixed_data(runs: Iterable[Run]) -> list[tuple[Run, ...]]:
    """Runs of one setting and task selection whose data are known to differ: one tuple such a selection.

    A run without a fingerprint is of unknown data, not of other data.
    """
    same: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        if run.data:
            same.setdefault((run.setting_hash, tuple(sorted(run.tasks))), []).append(run)
    return [tuple(found) for found in same.values() if len({run.data for run in found}) > 1]
