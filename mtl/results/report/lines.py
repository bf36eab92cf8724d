"""Line charts: one line a method, the mean over its runs, with a band of one standard deviation."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mtl.results.report.axis import Axis
from mtl.results.report.glyphs import marker, name
from mtl.results.report.markup import tag
from mtl.results.report.material import Look
from mtl.results.report.numbers import MINUS, counted, plain, significant
from mtl.results.report.series import Point, Series

WIDTH, HEIGHT = 400, 244
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 36
ROWS = 10
"""Most rows of the table below a chart."""

Lines = Sequence[tuple[Look, Series]]


def line_chart(
    title: str,
    lines: Lines,
    x_title: str,
    *,
    subtitle: str = "",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    focus: bool = False,
) -> Markup:
    """A figure with its title, the chart and the numbers behind it.

    Args:
        title: What is drawn.
        lines: Method and series; empty ones are left out.
        x_title: What x is.
        subtitle: Unit and direction.
        log: The values are decimal logarithms.
        limits: Range of y; from the data if None.
        focus: With ten places or more, leave the steep first fifth out of the range of y, and say so.
    """
    lines = [(look, series) for look, series in lines if series]
    xs = [point.x for _, series in lines for point in series]
    start = _focus_start(lines) if focus else None
    shown = [point for _, series in lines for point in series if start is None or point.x >= start]
    x_axis = Axis.around(xs, LEFT, WIDTH - RIGHT, room=0.02)
    y_axis = Axis.around([end for point in shown for end in _ends(point)], HEIGHT - BOTTOM, TOP, log=log)
    if limits is not None:
        y_axis = Axis(*limits, HEIGHT - BOTTOM, TOP)
    clipped = start is not None and any(
        not y_axis.low <= end <= y_axis.high for _, s in lines for point in s for end in _ends(point)
    )
    note = f"y range: from {x_title} {plain(start)}" if clipped and start is not None else ""
    drawn = [_line(*line, x_axis, y_axis) for line in _drawn(lines)]
    picture = tag(
        "svg",
        frame(x_axis, y_axis, x_title),
        tag("svg", drawn, **_INSIDE),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="chart lines",
        role="img",
        aria_label=f"{title}. {_in_words(lines, log)}",
        data_x=_scale(x_axis),
        data_y=_scale(y_axis),
        data_title=x_title,
    )
    caption = tag("figcaption", tag("b", title), tag("span", subtitle, class_="sub") if subtitle else None)
    notes = tag("p", note, class_="chart-note") if note else None
    reader = tag(
        "div", picture, class_="plot", tabindex=0, role="group", aria_label=f"{title}: arrow keys read the values"
    )
    return tag("figure", caption, reader, notes, numbers(lines, x_title, log), class_="panel")


_PAD = 5
_AREA = (LEFT - _PAD, TOP - _PAD, WIDTH - LEFT - RIGHT + 2 * _PAD, HEIGHT - TOP - BOTTOM + 2 * _PAD)
_INSIDE = {
    **dict(zip(("x", "y", "width", "height"), _AREA, strict=True)),
    "viewBox": " ".join(map(str, _AREA)),
    "class_": "inside",
}
"""Cuts off what is outside the range of y."""


def legend(looks: Sequence[Look]) -> Markup:
    """The methods of a section, for the eyes; their names stand in every table too."""
    entries = [tag("li", name(look), data_m=look.key) for look in looks if not look.context]
    rest = sum(look.context for look in looks)
    more = tag("li", f"grey: {counted(rest, 'other method')}; choose or point at one to see it") if rest else None
    return tag("ul", entries, more, class_="legend")


def frame(x_axis: Axis, y_axis: Axis, x_title: str, *, vertical: bool = False) -> Markup:
    """Grid lines, tick labels and the title of x."""
    left, right = min(x_axis.start, x_axis.end), max(x_axis.start, x_axis.end)
    bottom, top = max(y_axis.start, y_axis.end), min(y_axis.start, y_axis.end)
    parts: list[Markup] = []
    for value, label in y_axis.ticks(5):
        y = y_axis.at(value)
        parts += [
            tag("path", d=f"M{left},{y}H{right}", class_="g"),
            tag("text", label, x=left - 6, y=y + 3.5, class_="e"),
        ]
    for value, label in x_axis.ticks(max(3, int((right - left) // 60))):
        x = x_axis.at(value)
        parts.append(tag("path", d=f"M{x},{top}V{bottom}" if vertical else f"M{x},{bottom}v4", class_="g"))
        parts.append(tag("text", label, x=x, y=bottom + 16, class_="m"))
    parts.append(tag("path", d=f"M{left},{bottom}H{right}", class_="a"))
    parts.append(tag("text", x_title, x=right, y=bottom + 31, class_="e t"))
    return tag("g", parts, aria_hidden="true")


def numbers(lines: Lines, x_title: str, log: bool = False) -> Markup:
    """The table behind a chart, thinned to `ROWS` rows, without the methods whose lines are grey."""
    lines = [(look, series) for look, series in lines if not look.context] or lines
    places = sorted({point.x for _, series in lines for point in series})
    every = -(-len(places) // ROWS)
    places = places[::-1][::every][::-1]
    found = {look.key: {point.x: point for point in series} for look, series in lines}
    head = [
        tag("th", x_title, scope="col"),
        *(tag("th", look.label, scope="col", data_m=look.key) for look, _ in lines),
    ]
    rows = [
        tag(
            "tr",
            tag("th", plain(x), scope="row"),
            [tag("td", _value(found[look.key].get(x), log), data_m=look.key) for look, _ in lines],
        )
        for x in places
    ]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), class_="numbers")
    region = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Numbers behind the chart")
    return tag("details", tag("summary", "Numbers"), region, class_="behind")


def _value(point: Point | None, log: bool) -> str:
    if point is None:
        return ""
    if log:
        return significant(10**point.mean)
    return significant(point.mean, 4) + ("" if point.sd is None else f" ± {significant(point.sd, 2)}")


def _drawn(lines: Lines) -> Lines:
    """In the order of drawing: grey lines below the others."""
    return sorted(lines, key=lambda line: not line[0].context)


def _line(look: Look, series: Series, x_axis: Axis, y_axis: Axis) -> Markup:
    places = [(x_axis.at(point.x), y_axis.at(point.mean)) for point in series]
    band = None
    if any(point.sd for point in series) and not look.context:
        over = [f"{x},{y_axis.at(p.mean + (p.sd or 0))}" for (x, _), p in zip(places, series, strict=True)]
        under = [f"{x},{y_axis.at(p.mean - (p.sd or 0))}" for (x, _), p in zip(places, series, strict=True)]
        band = tag("path", d="M" + "L".join([*over, *under[::-1]]) + "Z", class_="band")
    line = tag("path", d="M" + "L".join(f"{x},{y}" for x, y in places), class_="l")
    every = max(1, -(-len(places) // 6))
    first = (look.key * 2) % every if len(places) > every else 0
    marks = [] if look.context else [marker(look, *place) for place in places[first::every]]
    css = f"s {look.css}{' context' if look.context else ''}"
    return tag("g", band, line, marks, class_=css, data_m=look.key, data_name=look.label)


def _ends(point: Point) -> tuple[float, float]:
    return point.mean - (point.sd or 0), point.mean + (point.sd or 0)


def _focus_start(lines: Lines) -> float | None:
    places = sorted({point.x for _, series in lines for point in series})
    return places[len(places) // 5] if len(places) >= 10 else None


def _scale(axis: Axis) -> str:
    ends = (axis.low, axis.high, axis.start, axis.end)
    return " ".join([*(f"{end:.6g}" for end in ends), "log" if axis.log else "linear"])


def _in_words(lines: Lines, log: bool) -> str:
    """First and last mean of every line, of at most eight."""
    words = [
        f"{look.label} from {_plain(series[0].mean, log)} to {_plain(series[-1].mean, log)}"
        for look, series in lines[:8]
    ]
    rest = [f"and {len(lines) - 8} more methods"] if len(lines) > 8 else []
    return "; ".join([*words, *rest]) + "."


def _plain(value: float, log: bool) -> str:
    return significant(10**value if log else value).replace(MINUS, "minus ")


def aligned(looks: Mapping[str, Look], series: Mapping[str, Series]) -> list[tuple[Look, Series]]:
    """Lines in the order of the table."""
    return [(look, series[label]) for label, look in looks.items() if series.get(label)]
