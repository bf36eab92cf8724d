"""What the sections of the report are made from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markupsafe import Markup

from mtl.results.comparison import Column, Comparison, Row
from mtl.results.report.record import Record, read_records
from mtl.results.runs import Run
from mtl.results.styles import COLORS, MARKERS, UNITS, method_styles
from mtl.results.tables import compare

MANY, IN_COLOUR = 12, 9
"""With more multi-task methods than `MANY`, only the first `IN_COLOUR` of the table have lines in colour."""


@dataclass(frozen=True)
class Look:
    """How a method is shown, everywhere on the page.

    Attributes:
        key: Its number in the order of the table; what filters and highlights refer to.
        label: Its name.
        css: Classes that set colour and dashes.
        marker: Name of its marker.
        baseline: Whether it is a single-task method.
        context: Whether its lines stay grey, because there are too many methods to tell apart by colour.
    """

    key: int
    label: str
    css: str
    marker: str
    baseline: bool
    context: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of predictions: its caption, its bytes and their media type."""

    caption: str
    data: bytes
    media_type: str


@dataclass(frozen=True)
class Material:
    """Everything the page shows.

    Attributes:
        runs: All runs.
        comparison: The table.
        looks: Label -> look, in the order of the table.
        records: Label -> what its runs recorded.
        curve_split: Split of the learning curves.
        commands: Commands that make missing single-task runs.
        pictures: Of predictions.
    """

    runs: tuple[Run, ...]
    comparison: Comparison
    looks: Mapping[str, Look]
    records: Mapping[str, Record]
    curve_split: str
    commands: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows of the table, in order."""
        return self.comparison.rows

    @property
    def competitors(self) -> list[Row]:
        """Rows of multi-task methods, of each the configuration that stands for it."""
        return [row for row in self.rows if not row.method.runs[0].is_single_task and row.method.stands]

    @property
    def candidates(self) -> list[Row]:
        """Rows of configurations of multi-task methods that do not stand for their method."""
        return [row for row in self.rows if not row.method.runs[0].is_single_task and not row.method.stands]

    @property
    def tasks(self) -> list[str]:
        """All tasks, in order."""
        return list(dict.fromkeys(column.task for column in self.comparison.columns))

    @property
    def has_delta_m(self) -> bool:
        """Whether some multi-task method has a Delta_m."""
        return any(row.delta_m for row in self.competitors)

    @cached_property
    def directories(self) -> dict[Path, str]:
        """Path of a run -> the same below the lowest directory above all runs."""
        paths = {run.path: run.path.resolve() for run in self.runs}
        root = Path(os.path.commonpath([path.parent for path in paths.values()]))
        return {path: path_below.relative_to(root).as_posix() for path, path_below in paths.items()}


@dataclass(frozen=True)
class Section:
    """A part of the page: anchor, title, one line on how to read it, content."""

    anchor: str
    title: str
    aid: str
    body: Markup


def gather(
    runs: Sequence[Run],
    *,
    split: str = "test",
    allow_mixed: bool = False,
    commands: Sequence[str] = (),
) -> Material:
    """Compare the runs and read their records; the order of `runs` does not matter.

    Args:
        runs: All runs.
        split: Split of the final metrics.
        allow_mixed: Accept runs of several settings.
        commands: Commands that make missing single-task runs.

    Raises:
        UserError: As `mtl.results.tables.compare`.
        RunDirectoryError: A completed run has no readable record.
    """
    comparison = compare(runs, split=split, allow_mixed=allow_mixed)
    curve_split = "val" if any("val" in run.metrics for run in runs) else split
    return Material(
        tuple(sorted(runs, key=lambda run: str(run.path))),
        comparison,
        _looks(comparison.rows),
        {row.label: read_records(row.method, curve_split) for row in comparison.rows},
        curve_split,
        tuple(commands),
    )


def _looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Colours and markers as in the figures; lines that would share both colour and solid stroke get dashes."""
    order = sorted(row.label for row in rows if not row.method.is_baseline)
    markers = {label: marker for label, (_, marker) in method_styles(order).items()}
    several = [row.label for row in rows if not row.method.runs[0].is_single_task]
    context = set(several[IN_COLOUR:]) if len(several) > MANY else set()
    looks = {}
    for key, row in enumerate(rows):
        single = row.method.runs[0].is_single_task
        if row.method.is_baseline:
            looks[row.label] = Look(key, row.label, "cb d1", "star", single)
        else:
            place = order.index(row.label)
            css = f"c{place % len(COLORS)} d{place // len(COLORS) % 4}"
            looks[row.label] = Look(key, row.label, css, MARKER_NAMES[markers[row.label]], single, row.label in context)
    return looks


MARKER_NAMES = dict(
    zip(
        MARKERS,
        ("dot", "square", "diamond", "up", "down", "plus", "cross", "hexagon", "left", "right", "pentagon"),
        strict=True,
    )
)


def unit(metric: str) -> str:
    """` (%)` or nothing."""
    return f" ({UNITS[metric]})" if metric in UNITS else ""


def better(column: Column) -> str:
    """The direction in words."""
    return "higher is better" if column.higher_is_better else "lower is better"
