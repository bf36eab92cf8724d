"""Table definitions: configs/table/<paper>/<table>.yaml, read and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mtl.errors import ConfigError
from mtl.results.published import PublishedTable, load_published
from mtl.results.runs import SINGLE_TASK

ALL_TASKS = "*"
"""As `task` of a column: the mean of the metric over all tasks."""
EACH_TASK = "each"
"""As `task` of a column: one column per column of the published table."""
_KEYS = (
    "title",
    "banner",
    "dataset",
    "experiment",
    "published",
    "split",
    "reference",
    "choose_on",
    "figures",
    "columns",
    "rows",
    "protocol",
)


@dataclass(frozen=True)
class TableColumn:
    """A column: our task and metric, and the published one it stands beside.

    Attributes:
        task: Ours; `ALL_TASKS` for the mean over tasks.
        metric: Ours.
        published: Key in the published table; None without one.
        scale: Our values times this are in the published unit.
        title: Header.
    """

    task: str
    metric: str
    published: str | None = None
    scale: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row: which jobs of which sweep make it, and which published row it stands beside.

    Attributes:
        label: Its name in the table.
        published: Row of the published table; None without one.
        sweep: Name of the sweep; None without runs.
        strategy: Only jobs of this strategy; None for all of the sweep.
        where: Parameter of the sweep -> value: only jobs with it. What is not named is chosen on validation.
    """

    label: str
    published: str | None = None
    sweep: str | None = None
    strategy: str | None = None
    where: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_single_task(self) -> bool:
        """Whether it is the row that Delta_m is measured against."""
        return self.label == SINGLE_TASK

    def takes(self, parameters: Mapping[str, str]) -> bool:
        """Whether a job of its sweep with these parameters (as text) belongs to it."""
        return self.strategy in (None, parameters["strategy"]) and all(
            parameters.get(key) == str(value) for key, value in self.where.items()
        )


@dataclass(frozen=True)
class TableDefinition:
    """What a table holds; see docs/tables.md for the keys.

    Attributes:
        choose_on: Seeds on which candidates are compared; only the chosen one is then run with the sweep's other seeds.
            Empty: every candidate is run with every seed.
        figures: Figures that its page shows.
    """

    name: str
    title: str
    dataset: str
    experiment: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    protocol: Mapping[str, tuple[str, ...]]
    split: str = "test"
    banner: str = ""
    published: PublishedTable | None = None
    reference: str | None = None
    choose_on: tuple[int, ...] = ()
    figures: tuple[str, ...] = ()


def only_rows(definition: TableDefinition, labels: Sequence[str]) -> TableDefinition:
    """The definition with some of its rows, named by label or by its first word; all of them if none is named.

    Raises:
        ConfigError: A label is none of the table's.
    """
    if not labels:
        return definition
    wanted = _full_labels(definition, labels)
    rows = tuple(row for row in definition.rows if row.label in wanted)
    reference = definition.reference if definition.reference in wanted else None
    return replace(definition, rows=rows, reference=reference)


def with_reference(definition: TableDefinition, label: str) -> TableDefinition:
    """The definition with another row that the others are compared with, named by label or by its first word.

    Raises:
        ConfigError: The label is none of the table's.
    """
    (reference,) = _full_labels(definition, [label])
    return replace(definition, reference=reference)


def _full_labels(definition: TableDefinition, labels: Sequence[str]) -> set[str]:
    short = {row.label.partition(" ")[0]: row.label for row in definition.rows}
    wanted = {short.get(label, label) for label in labels}
    unknown = sorted(wanted - {row.label for row in definition.rows})
    if unknown:
        raise ConfigError(f"{definition.name} has no row {', '.join(unknown)}. Its rows are {', '.join(short)}.")
    return wanted


def table_names(root: Path) -> list[str]:
    """All definitions below `root`, as `paper/table`."""
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def load_definition(root: Path, name: str) -> TableDefinition:
    """Read the definition `name` below `root`.

    Raises:
        ConfigError: There is none, or it breaks the schema.
    """
    if name not in table_names(root):
        raise ConfigError(f"`{name}` is no table. The tables are {', '.join(table_names(root))}.")
    node = yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8"))
    where = f"Table `{name}`"
    unknown = sorted(set(node) - set(_KEYS))
    missing = [key for key in ("title", "dataset", "experiment", "columns", "rows", "protocol") if key not in node]
    if unknown or missing:
        raise ConfigError(f"{where}: unknown keys {unknown}, missing keys {missing}. The keys are {', '.join(_KEYS)}.")
    published = load_published(node["published"]) if node.get("published") else None
    rows = tuple(_fields(TableRow, row, where) for row in node["rows"])
    labels = [row.label for row in rows]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{where}: a label comes twice in {labels}.")
    reference = node.get("reference")
    if reference is not None and reference not in labels:
        raise ConfigError(f"{where}: `reference: {reference}` is none of the rows {labels}.")
    columns = tuple(column for entry in node["columns"] for column in _columns(entry, published, where))
    _check_published(rows, columns, published, where)
    return TableDefinition(
        name=name,
        title=node["title"],
        dataset=node["dataset"],
        experiment=node["experiment"],
        columns=columns,
        rows=rows,
        protocol={key: tuple(notes) for key, notes in node["protocol"].items()},
        split=node.get("split", "test"),
        banner=node.get("banner") or "",
        published=published,
        reference=reference,
        choose_on=tuple(node.get("choose_on") or ()),
        figures=tuple(node.get("figures") or ()),
    )


def _fields(kind: Any, node: Mapping[str, Any], where: str) -> Any:
    unknown = sorted(set(node) - set(kind.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"{where}: unknown keys {unknown}; valid ones are {', '.join(kind.__dataclass_fields__)}.")
    return kind(**node)


def _columns(node: Mapping[str, Any], published: PublishedTable | None, where: str) -> list[TableColumn]:
    column = _fields(TableColumn, node, where)
    if column.task != EACH_TASK:
        title = column.title or (
            f"mean {column.metric}" if column.task == ALL_TASKS else f"{column.task} {column.metric}"
        )
        return [TableColumn(column.task, column.metric, column.published, column.scale, title)]
    if published is None:
        raise ConfigError(f"{where}: `task: {EACH_TASK}` takes its tasks from a published table. Found none.")
    return [
        TableColumn(metric.task or metric.name, column.metric, metric.key, column.scale, metric.task or metric.name)
        for metric in published.metrics
    ]


def _check_published(
    rows: tuple[TableRow, ...], columns: tuple[TableColumn, ...], published: PublishedTable | None, where: str
) -> None:
    keys = {metric.key for metric in published.metrics} if published else set()
    wrong = [column.published for column in columns if column.published is not None and column.published not in keys]
    wrong += [
        row.published for row in rows if row.published is not None and not (published and published.row(row.published))
    ]
    if wrong:
        raise ConfigError(f"{where}: {', '.join(map(str, wrong))} is in no published table of this definition.")
