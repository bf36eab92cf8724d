"""A comparison as Markdown, CSV and a terminal table."""

import csv
import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtl.results.comparison import COSTS, Column, Comparison, Row

if TYPE_CHECKING:
    from rich.table import Table

EMPTY = "-"


def decimals(rows: Iterable[Row], column: Column) -> int:
    """Decimals that show about four digits of the largest mean in a column."""
    sizes = [abs(row.values[column].mean) for row in rows if column in row.values]
    largest = max((size for size in sizes if 0 < size < math.inf), default=1.0)
    return min(8, max(2, 3 - math.floor(math.log10(largest))))


def _header(comparison: Comparison) -> list[str]:
    deltas = [f"{title} % ↑" for title in comparison.delta_m]
    return ["method", *(column.title for column in comparison.columns), *deltas, "mean rank ↓", *COSTS, "seeds"]


def _cells(row: Row, comparison: Comparison) -> list[str]:
    values = [
        row.values[column].text(decimals(comparison.rows, column)) if column in row.values else EMPTY
        for column in comparison.columns
    ]
    deltas = [row.delta_m[title].text(2) if title in row.delta_m else EMPTY for title in comparison.delta_m]
    rank = EMPTY if row.mean_rank is None else f"{row.mean_rank:.2f}"
    costs = [f"{row.cost[title]:.2f}" if title in row.cost else EMPTY for title in COSTS]
    return [row.label, *values, *deltas, rank, *costs, row.seeds_text]


def to_markdown(comparison: Comparison) -> str:
    """The table and its footnotes as Markdown; a missing value is `-`."""
    header = _header(comparison)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *(_cells(row, comparison) for row in comparison.rows)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {note}" for note in comparison.footnotes) + "\n"


def to_rich(comparison: Comparison) -> "Table":
    """The table for a terminal of 80 columns, without footnotes and with the costs in milliseconds only."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    kept = len(comparison.columns) + len(comparison.delta_m) + 3  # method, values, mean rank, ms/step
    lines = [[cell.replace(" ± ", "±") for cell in _cells(row, comparison)] for row in comparison.rows]
    lines = [[*cells[:kept], cells[-1]] for cells in lines]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for index, title in enumerate([*_header(comparison)[:kept], "seeds"]):
        heading = escape(title.replace(" ", "\n", 1))
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for cells in lines:
        table.add_row(*map(escape, cells))
    return table


def to_csv(comparison: Comparison) -> str:
    """Rows for programs: per method its mean, its sd and every seed and lost run, in full precision.

    A missing value is an empty field here, so that columns stay numeric. The column `statistic` is `mean`, `sd` or
    `seed`; Delta_m is in percent, positive = better than single-task.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{column.task}/{column.metric}" for column in comparison.columns]
    end_titles = ["mean rank", *COSTS, "seeds", "diverged", "failed"]
    writer.writerow(["method", "statistic", "seed", "status", *columns, *comparison.delta_m, *end_titles])
    for row in comparison.rows:
        cells = [row.values.get(column) for column in comparison.columns]
        cells += [row.delta_m.get(title) for title in comparison.delta_m]
        end = [row.mean_rank, *(row.cost.get(title) for title in COSTS)]
        end += [len(row.seeds), row.count("diverged"), row.count("failed")]
        writer.writerow([row.label, "mean", None, None, *(cell and cell.mean for cell in cells), *end])
        writer.writerow([row.label, "sd", None, None, *(cell and cell.sd for cell in cells)] + [None] * len(end))
        for seed, values in row.per_seed.items():
            deltas = [row.delta_per_seed.get(seed, {}).get(title) for title in comparison.delta_m]
            seed_cells = [*(values.get(column) for column in comparison.columns), *deltas]
            writer.writerow([row.label, "seed", seed, "completed", *seed_cells] + [None] * len(end))
        for run in row.method.runs:
            if not run.completed:
                writer.writerow([row.label, "seed", run.seed, run.status] + [None] * (len(cells) + len(end)))
    return text.getvalue()
