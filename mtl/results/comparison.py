"""The types of a comparison: columns, cells, rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mtl.results.noise import UNDEFINED
from mtl.results.runs import Method

COSTS = ("ms/step", "backbone backwards/step", "optimizer steps/step")


@dataclass(frozen=True)
class Column:
    """One task and metric."""

    task: str
    metric: str
    higher_is_better: bool
    primary: bool

    @property
    def title(self) -> str:
        """Header, with an arrow in the direction of better."""
        return f"{self.task} {self.metric} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Cell:
    """A mean over `n` seeds and its sample standard deviation (None for n = 1)."""

    mean: float
    sd: float | None
    n: int

    def text(self, decimals: int) -> str:
        """Mean ± sd; in words if a seed's value is undefined."""
        if not math.isfinite(self.mean):
            return UNDEFINED
        centre = f"{self.mean:.{decimals}f}"
        return centre if self.sd is None else f"{centre} ± {self.sd:.{decimals}f}"


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: Label and runs.
        values: Column -> cell; a column without a value is absent.
        delta_m: Title of the definition -> cell in percent; absent without a complete baseline.
        mean_rank: None for single-task rows and rows with missing values.
        cost: Entry of COSTS -> mean over runs.
        per_seed: Seed -> column -> value (mean of repeats of a seed).
        delta_per_seed: Seed -> title of the definition -> percent.
    """

    method: Method
    values: Mapping[Column, Cell]
    delta_m: Mapping[str, Cell]
    mean_rank: float | None
    cost: Mapping[str, float]
    per_seed: Mapping[int, Mapping[Column, float]]
    delta_per_seed: Mapping[int, Mapping[str, float]]

    @property
    def label(self) -> str:
        """Name of the method, unique in its table."""
        return self.method.label

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the completed runs."""
        return tuple(sorted({run.seed for run in self.method.completed}))

    def count(self, status: str) -> int:
        """Number of runs that ended so."""
        return sum(run.status == status for run in self.method.runs)

    @property
    def seeds_text(self) -> str:
        """Number of seeds, and of runs that did not complete."""
        lost = [f"{self.count(status)} {status}" for status in ("diverged", "failed") if self.count(status)]
        return f"{len(self.seeds)} (+{', '.join(lost)})" if lost else str(len(self.seeds))


@dataclass(frozen=True)
class Comparison:
    """A table: its columns, rows in order, and the footnotes without which it says too little."""

    split: str
    columns: tuple[Column, ...]
    delta_m: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
