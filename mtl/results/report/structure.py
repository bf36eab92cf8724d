"""The section on relations of tasks: groups, affinities, cosines of gradients, shares of the update."""

from collections.abc import Sequence

from markupsafe import Markup

from mtl.results.report.glyphs import name
from mtl.results.report.lines import aligned, line_chart
from mtl.results.report.markup import hidden, tag
from mtl.results.report.material import Look, Material, Section
from mtl.results.report.numbers import MINUS, NONE, counted, fixed, signed, significant
from mtl.results.report.record import Matrix
from mtl.results.report.tables import heat

MOST_TASKS, PAIRS = 14, 8
"""With more tasks than `MOST_TASKS`, so many pairs from both ends instead of a table of all."""
FEW = 4
"""Tables that stand open; more are behind a button."""


def structure_section(material: Material) -> Section | None:
    """Which tasks were trained together, which help each other, and who moves which layer."""
    parts: list[Markup] = []
    records = [(material.looks[label], record) for label, record in material.records.items()]
    together = [(look, record.tasks, record.together) for look, record in records if record.together]
    changing = [_matrix(*one, percent=True) for one in together if not _settled(one[2])]
    parts += _block("Groups: share of steps in which two tasks are together, %", changing, folded=len(changing) > FEW)
    fixed_groups = [f"{look.label}: {_groups(tasks, shares)}" for look, tasks, shares in together if _settled(shares)]
    if fixed_groups:
        parts.append(
            tag("p", f"The same groups in every recorded step. {'; '.join(fixed_groups)}.", class_="chart-note")
        )
    counts = {label: record.group_count for label, record in material.records.items()}
    varying = {label: series for label, series in counts.items() if len({point.mean for point in series}) > 1}
    if varying:
        chart = line_chart("Number of groups", aligned(material.looks, varying), "step", subtitle="mean over seeds")
        parts.append(tag("div", chart, class_="panels"))
    affinities = [_matrix(look, record.tasks, record.affinity) for look, record in records if record.affinity]
    title = "Affinity: what an update with the task of the row does for the task of the column"
    parts += _block(title, affinities, folded=len(affinities) > FEW)
    cosines = [_matrix(look, record.tasks, record.cosines) for look, record in records if record.cosines]
    parts += _block("Cosine of task gradients, last third of training", cosines, folded=len(cosines) > FEW)
    shares = [_shares(look, record.tasks, record.update_share) for look, record in records if record.update_share]
    parts += _block("Share of each task in the update of each layer, last third, %", shares, folded=len(shares) > FEW)
    if not parts:
        return None
    aid = (
        f"Tables of tasks against tasks: + and a blue ground are for helping or agreeing, {MINUS} and an orange one "
        "for the opposite; stronger ground, larger number. Means over seeds."
    )
    return Section("structure", "Affinity and groups", aid, Markup("").join(parts))


def _settled(shares: Matrix) -> bool:
    """Whether every pair is always or never together."""
    return all(share in (0.0, 1.0) for row in shares for share in row)


def _groups(tasks: Sequence[str], shares: Matrix) -> str:
    """Groups that never change, in words."""
    groups = dict.fromkeys(tuple(task for task, share in zip(tasks, row, strict=True) if share) for row in shares)
    groups.pop((), None)
    if len(groups) > 1 and all(len(group) == 1 for group in groups):
        return f"each of {len(groups)} tasks alone"
    return ", ".join("{" + ", ".join(group) + "}" for group in groups)


def _block(title: str, matrices: Sequence[Markup], folded: bool = False) -> list[Markup]:
    if not matrices:
        return []
    grid = tag("div", matrices, class_="matrices")
    if folded:
        return [tag("details", tag("summary", f"{title} ({len(matrices)} methods)"), grid, class_="more")]
    return [tag("h3", title), grid]


def _matrix(look: Look, tasks: Sequence[str], matrix: Matrix, *, percent: bool = False) -> Markup:
    """A task-by-task table, or its largest and smallest entries if there are too many tasks for one.

    The diagonal does not count for the colours.
    """
    if len(tasks) > MOST_TASKS:
        return _pairs(look, tasks, matrix, percent=percent)
    off = [abs(v) for i, row in enumerate(matrix) for j, v in enumerate(row) if v is not None and i != j]
    largest = 1.0 if percent else max(off, default=1.0)
    rows = []
    for i, (source, values) in enumerate(zip(tasks, matrix, strict=True)):
        cells = [_cell(value, largest, percent=percent, own=i == j) for j, value in enumerate(values)]
        rows.append(tag("tr", tag("th", source, scope="row"), cells))
    return _framed(look, tasks, rows)


def _pairs(look: Look, tasks: Sequence[str], matrix: Matrix, *, percent: bool) -> Markup:
    """The entries at both ends, off the diagonal; of a symmetric matrix, a pair once."""
    symmetric = all(matrix[i][j] == matrix[j][i] for i in range(len(tasks)) for j in range(i))
    found = sorted(
        (value, source, target)
        for i, (source, row) in enumerate(zip(tasks, matrix, strict=True))
        for j, (target, value) in enumerate(zip(tasks, row, strict=True))
        if value is not None and (i < j if symmetric else i != j)
    )
    ends = [*found[: -PAIRS - 1 : -1], *found[PAIRS - 1 :: -1]] if len(found) > 2 * PAIRS else found[::-1]
    largest = max((abs(value) for value, _, _ in found), default=1.0)
    rows = [
        tag(
            "tr",
            tag("th", f"{source} {'and' if symmetric else '→'} {target}", scope="row"),
            _cell(value, largest, percent=percent, own=False),
        )
        for value, source, target in ends
    ]
    return _framed(look, [f"{counted(len(found), 'pair')}: both ends"], rows)


def _cell(value: float | None, largest: float, *, percent: bool, own: bool) -> Markup:
    if value is None:
        return tag("td", tag("span", NONE, hidden("not measured"), class_="none"))
    text = (
        fixed(100 * value, 0)
        if percent
        else signed(value)
        if largest >= 0.1
        else ("+" if value > 0 else "") + significant(value)
    )
    if own:
        return tag("td", tag("span", text, class_="own"))
    side = "up" if value > 0 else "down" if value < 0 else ""
    return tag("td", tag("span", text, class_="heat", style=heat(value, largest)), class_=side or None)


def _shares(look: Look, tasks: Sequence[str], layers: object) -> Markup:
    assert isinstance(layers, dict)
    rows = []
    for layer, shares in layers.items():
        cells = [
            tag(
                "td",
                tag("span", fixed(100 * shares[task], 0), class_="heat", style=heat(shares[task], 1.0)),
                class_="up",
            )
            if task in shares
            else tag("td")
            for task in tasks
        ]
        rows.append(tag("tr", tag("th", layer, scope="row"), cells))
    return _framed(look, tasks, rows)


def _framed(look: Look, tasks: Sequence[str], rows: Sequence[Markup]) -> Markup:
    head = tag("tr", tag("td"), [tag("th", task, scope="col") for task in tasks])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="matrix")
    box = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"{look.label}, table")
    return tag("figure", tag("figcaption", name(look)), box, data_m=look.key)
