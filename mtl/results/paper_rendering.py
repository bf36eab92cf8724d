"""A paper's table as Markdown, terminal output, LaTeX and CSV."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mtl.results.definition import TableDefinition
from mtl.results.noise import UNDEFINED
from mtl.results.paper_table import DELTAS, PaperTable
from mtl.results.sections import Section
from mtl.results.totals import COSTS

if TYPE_CHECKING:
    from rich.console import RenderableType

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
    "<": r"$<$",
    ">": r"$>$",
}


def to_markdown(definition: TableDefinition, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Title, banner, one Markdown table a section, footnotes as a list."""
    lines = [f"# {definition.title}", ""]
    if definition.banner:
        lines += [f"**{definition.banner}**", ""]
    return "\n".join(lines) + "\n" + sections_markdown(sections) + "\n" + notes_markdown(notes)


def sections_markdown(sections: Sequence[Section]) -> str:
    """One heading and one Markdown table a section."""
    lines = []
    for section in sections:
        header = [title.replace("\n", " ").strip() for title in section.header]
        rule = ["---", *["---:"] * (len(header) - 1)]
        lines += [f"## {section.title}", ""]
        lines += [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            for line in (header, rule, *section.rows)
        ]
        lines.append("")
    return "\n".join(lines)


def notes_markdown(notes: Sequence[str]) -> str:
    """Footnotes as a list under a heading."""
    return "## Notes\n\n" + "\n".join("- " + note.replace("\n", "\n  ") for note in notes) + "\n"


def to_rich(
    definition: TableDefinition, sections: Sequence[Section], notes: Sequence[str]
) -> "Iterator[RenderableType]":
    """The same for a terminal of 120 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    yield Text(definition.title, style="bold")
    if definition.banner:
        yield Text(definition.banner, style="bold red")
    for section in sections:
        yield Text(f"\n{section.title}", style="bold")
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for index, title in enumerate(section.header):
            grid.add_column(Text(title), justify="right" if index else "left", overflow="fold", no_wrap=not index)
        for line in section.rows:
            grid.add_row(*(Text(cell) for cell in line))
        yield grid
    yield Text("")
    for note in notes:
        yield Text(f"- {note}", style="yellow" if note.startswith("WARNING") else "dim")


def to_latex(definition: TableDefinition, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """One tabular a section, with the notes below; needs the LaTeX package booktabs."""
    lines = [f"% {definition.title}", r"% \usepackage{booktabs}"]
    if definition.banner:
        lines.append(rf"\textbf{{{_escape(definition.banner)}}}")
    for section in sections:
        lines += [
            "",
            rf"% {section.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(section.header) - 1)}}}",
            r"\toprule",
            _latex_line([title.replace("\n", " ").strip() for title in section.header]),
            r"\midrule",
            *(_latex_line(line) for line in section.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    lines += ["", r"\begin{flushleft}\footnotesize"]
    lines += [_escape(note.replace("\n", " ")) + r"\\" for note in notes]
    return "\n".join([*lines, r"\end{flushleft}", ""])


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_csv(table: PaperTable) -> str:
    """For programs: one line a row and column, in full precision, then one line a seed; a missing value is empty,
    and so is an undefined one, whose `verdict` says so.

    `kind` is cell, seed, delta_m, rank or cost; Delta_m positive = better; `difference` is ours minus the paper's.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["kind", "method", "column", "seed", "paper", "ours", "sd", "n", "difference", "half_width", "verdict"]
    )
    for row in table.rows:
        for column in table.columns:
            cell = row.cells[column.title]
            ours, gap = cell.ours, cell.difference
            paper = cell.paper.value if cell.paper else None
            own = [_number(ours.mean), _number(ours.sd), ours.n] if ours else [None] * 3
            verdict = UNDEFINED if ours and not math.isfinite(ours.mean) else gap.verdict if gap else None
            end = [_number(gap.mean), gap.half_width, verdict] if gap else [None, None, verdict]
            writer.writerow(["cell", row.label, column.title, None, paper, *own, *end])
        for title in DELTAS:
            delta = row.delta_m.get(title)
            own = [delta.mean, delta.sd, delta.n] if delta else [None] * 3
            writer.writerow(["delta_m", row.label, title, None, row.paper_delta_m.get(title), *own, None, None, None])
        for seed, values in row.per_seed.items():
            for name, value in values.items():
                word = None if math.isfinite(value) else UNDEFINED
                writer.writerow(["seed", row.label, name, seed, None, _number(value), *[None] * 4, word])
        if row.rank is not None:
            writer.writerow(["rank", row.label, "mean rank", None, None, row.rank, *[None] * 5])
        for title in COSTS:
            if title in row.cost:
                writer.writerow(["cost", row.label, title, None, None, row.cost[title], *[None] * 5])
    return text.getvalue()


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
