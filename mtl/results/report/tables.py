"""Tables of the page: sortable by their header buttons, scrollable in their own box."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mtl.results.report.markup import Content, hidden, tag


@dataclass(frozen=True)
class Head:
    """A column's header.

    Attributes:
        title: Text.
        better: +1 if more is better, -1 if less, 0 if neither: what the first sorting puts first.
        text: Whether cells are text: left-aligned, sorted by alphabet.
        group: Title above adjacent columns of one group; empty for none.
        about: Explanation, shown on hover and read out.
    """

    title: str
    better: int = 0
    text: bool = False
    group: str = ""
    about: str = ""

    @property
    def arrow(self) -> str:
        """The direction of better, as a sign."""
        return {1: "\N{NO-BREAK SPACE}↑", -1: "\N{NO-BREAK SPACE}↓", 0: ""}[self.better]


@dataclass(frozen=True)
class Entry:
    """A cell: what it shows, and what it is sorted by (None: last)."""

    shown: Content
    value: float | str | None = None
    css: str = ""


def sortable(
    caption: str, heads: Sequence[Head], rows: Iterable[tuple[Sequence[Entry], int | None]], css: str = ""
) -> Markup:
    """A table whose columns sort.

    Args:
        caption: What it holds; for screen readers, the section's title shows it to others.
        heads: Columns; the first one names the row.
        rows: Cells and the key of the method, if the row is one.
        css: Further classes.
    """
    lines = []
    for entries, key in rows:
        first, *rest = entries
        cells = [tag("th", first.shown, scope="row", data_v=first.value, class_=first.css or None)]
        cells += [_cell(entry, head) for entry, head in zip(rest, heads[1:], strict=True)]
        lines.append(tag("tr", cells, data_m=key))
    table = tag(
        "table",
        tag("caption", caption, class_="vh"),
        tag("thead", _groups(heads), tag("tr", [_head(head) for head in heads])),
        tag("tbody", lines),
        class_=f"sortable {css}".strip(),
    )
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"{caption} (table)")


def _cell(entry: Entry, head: Head) -> Markup:
    css = " ".join(filter(None, (entry.css, "text" if head.text else "")))
    value = f"{entry.value:.10g}" if isinstance(entry.value, float) else entry.value
    return tag("td", entry.shown, data_v=value, class_=css or None)


def _head(head: Head) -> Markup:
    direction = {1: "higher is better", -1: "lower is better", 0: ""}[head.better]
    button = tag(
        "button",
        hidden(f"{head.group} ") if head.group else None,
        head.title,
        tag("span", head.arrow, aria_hidden="true") if head.better else None,
        hidden(f", {direction}") if direction else None,
        tag("span", class_="caret", aria_hidden="true"),
        type="button",
        title=head.about or None,
    )
    return tag(
        "th",
        button,
        scope="col",
        aria_sort="none",
        data_better=head.better or None,
        data_text=head.text,
        class_="text" if head.text else None,
    )


def _groups(heads: Sequence[Head]) -> Markup | None:
    """The line of group titles, if there is any."""
    if not any(head.group for head in heads):
        return None
    cells, index = [], 0
    while index < len(heads):
        group, span = heads[index].group, 1
        while group and index + span < len(heads) and heads[index + span].group == group:
            span += 1
        cells.append(tag("th", group, colspan=span, scope="colgroup", class_="group") if group else tag("td"))
        index += span
    return tag("tr", cells, class_="groups")


def plain(heads: Sequence[str], rows: Iterable[Sequence[Content]], caption: str, css: str = "") -> Markup:
    """A small table that does not sort."""
    table = tag(
        "table",
        tag("caption", caption, class_="vh"),
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag(
            "tbody", [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
        ),
        class_=f"plain {css}".strip(),
    )
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"{caption} (table)")


def heat(value: float, largest: float) -> str:
    """Style of a cell whose ground shows sign and size; the number stands in it, so colour says nothing alone."""
    share = 0.0 if not largest else min(1.0, abs(value) / largest)
    return f"--h:{round(55 * share)}%"
