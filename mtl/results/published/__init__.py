"""Published numbers as data: one YAML file per paper or benchmark beside this module, and the loader for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mtl.errors import ConfigError

CONFIDENCES = ("paper", "released code", "reconstruction", "independent re-run", "sibling paper", "benchmark")
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PublishedMetric:
    """A column of a published table; `unit` as its source names it, empty where the source names none."""

    name: str
    higher_is_better: bool
    task: str = ""
    unit: str = ""

    @property
    def key(self) -> str:
        """`task/name`, or the name alone for a table that has no tasks in its columns; unique in its table."""
        return f"{self.task}/{self.name}" if self.task else self.name


@dataclass(frozen=True)
class PublishedValue:
    """A printed number; `ci` is the half-width of a printed 95 % confidence interval."""

    value: float
    ci: float | None = None


@dataclass(frozen=True)
class PublishedRow:
    """One method.

    Attributes:
        method: Our name where we have the method, else lower snake case of the printed one.
        label: As printed.
        values: Column key -> value; empty for a row whose `status` says why.
        status: `not_converged`, or empty.
        verified: False where the number was not read in the source it belongs to.
        delta_m: Definition (`metric_mean`, `task_mean`) -> printed value, NEGATIVE = better; None where there is none.
        unverified: Metrics among them that were not read in the source.
    """

    method: str
    label: str
    values: Mapping[str, PublishedValue]
    status: str = ""
    verified: bool = True
    delta_m: Mapping[str, float] | None = None
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedTable:
    """A table with its source; `rows` is empty where no number is available, and `empty_because` then says why."""

    name: str
    title: str
    source: str
    confidence: str
    metrics: tuple[PublishedMetric, ...]
    rows: tuple[PublishedRow, ...]
    single_task: PublishedRow | None = None
    note: str = ""
    empty_because: str = ""

    def row(self, method: str) -> PublishedRow | None:
        """The row of a method, `single_task` included; None if the table has none."""
        if method == "single_task" and self.single_task is not None:
            return self.single_task
        return next((row for row in self.rows if row.method == method), None)


def published_names() -> list[str]:
    """All tables, as `file/table`."""
    files = sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))
    return [f"{file}/{name}" for file in files for name in _tables(file)]


def load_published(name: str) -> PublishedTable:
    """A published table by `file/table`.

    Raises:
        ConfigError: There is none of this name, or its file breaks the schema.
    """
    file, _, table = name.partition("/")
    if name not in published_names():
        raise ConfigError(f"`{name}` is no published table. The tables are {', '.join(published_names())}.")
    return _tables(file)[table]


@cache
def _tables(file: str) -> dict[str, PublishedTable]:
    path = Path(__file__).parent / f"{file}.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{path} should have `schema_version: {SCHEMA_VERSION}`.")
    return {name: parse_table(f"{file}/{name}", node) for name, node in document["tables"].items()}


def parse_table(name: str, node: Mapping[str, Any]) -> PublishedTable:
    """Check one table of a file.

    Raises:
        ConfigError: A source is missing, a row has not one value per metric, a name comes twice, or a table is empty
            without a reason.
    """
    for key in ("source", "confidence", "metrics", "rows"):
        if node.get(key) is None:
            raise ConfigError(f"Published table `{name}` lacks `{key}`.")
    if node["confidence"] not in CONFIDENCES:
        raise ConfigError(f"Published table `{name}`: `confidence` is one of {', '.join(CONFIDENCES)}.")
    metrics = tuple(
        PublishedMetric(
            str(metric["name"]),
            bool(metric["higher_is_better"]),
            str(metric.get("task", "")),
            str(metric.get("unit") or ""),
        )
        for metric in node["metrics"]
    )
    _check_unique(name, "metric", [metric.key for metric in metrics])
    rows = tuple(_row(name, metrics, row) for row in node["rows"])
    _check_unique(name, "method", [row.label for row in rows])
    if not rows and not node.get("empty_because"):
        raise ConfigError(f"Published table `{name}` has no rows and no `empty_because`.")
    single = node.get("single_task")
    return PublishedTable(
        name,
        str(node.get("title", "")),
        str(node["source"]),
        str(node["confidence"]),
        metrics,
        rows,
        None if single is None else _row(name, metrics, {"method": "single_task", "label": "STL", **single}),
        str(node.get("note", "")),
        str(node.get("empty_because", "")),
    )


def _row(name: str, metrics: tuple[PublishedMetric, ...], row: Mapping[str, Any]) -> PublishedRow:
    values, status = row.get("values", []), str(row.get("status", ""))
    if bool(values) == bool(status) or (values and len(values) != len(metrics)):
        raise ConfigError(
            f"Published table `{name}`, row {row.get('label')}: needs one value for each of {len(metrics)} metrics, or "
            f"a `status`. Found {len(values)} values and status {status!r}."
        )
    return PublishedRow(
        str(row["method"]),
        str(row["label"]),
        {metric.key: _value(value) for metric, value in zip(metrics, values, strict=False)},
        status,
        bool(row.get("verified", True)),
        row["delta_m"] if isinstance(row.get("delta_m"), Mapping) else None,
        tuple(row.get("unverified_metrics", ())),
    )


def _value(value: Any) -> PublishedValue:
    if isinstance(value, Mapping):
        return PublishedValue(float(value["mean"]), float(value["ci"]))
    return PublishedValue(float(value))


def _check_unique(name: str, what: str, keys: list[str]) -> None:
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"Published table `{name}` has the {what} {', '.join(twice)} more than once.")
