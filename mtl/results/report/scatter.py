"""Scatter charts: a method is a point with its spread, its seeds small beside it, its name written at it."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mtl.results.report.axis import Axis
from mtl.results.report.glyphs import marker
from mtl.results.report.lines import frame
from mtl.results.report.markup import tag
from mtl.results.report.material import Look

SIZES = ((680, 420), (370, 360))
"""Wide and narrow screens: text keeps its size, so a chart is drawn for each."""
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 12, 38
LETTER, LINE = 6.3, 13
"""Width and height of a letter at 11.5 pixels, roughly."""


@dataclass(frozen=True)
class Dot:
    """A method in a scatter.

    Attributes:
        look: Its look.
        x: Mean.
        y: Mean.
        sd: Standard deviations of x and y; None where there is none.
        seeds: Values of single seeds.
        tip: What is said about it.
    """

    look: Look
    x: float
    y: float
    sd: tuple[float | None, float | None]
    seeds: tuple[tuple[float, float], ...]
    tip: str


@dataclass(frozen=True)
class Titles:
    """Of the axes and, for screen readers, of the chart; directions of better (+1: more) for the best trade-offs."""

    x: str
    y: str
    chart: str
    better: tuple[int, int]


def scatter(
    dots: Sequence[Dot], titles: Titles, *, guides: tuple[float | None, float | None] = (None, None), log: bool = False
) -> Markup:
    """A figure with the chart for wide and for narrow screens.

    Args:
        dots: Methods; x in decimal logarithms if `log`.
        titles: Texts.
        guides: Dashed lines at an x and a y.
        log: Whether x is logarithmic.
    """
    front = pareto([(dot.x * titles.better[0], dot.y * titles.better[1]) for dot in dots if not dot.look.baseline])
    best = [dot for dot in dots if not dot.look.baseline]
    words = ", ".join(best[index].look.label for index in front)
    told = f"{titles.chart} Best trade-offs: {words}. " + "; ".join(dot.tip for dot in dots[:12])
    charts = [
        tag(
            "div",
            _chart(dots, [best[index] for index in front], titles, size, guides, log, told),
            class_=f"plot {kind}",
            tabindex=0,
            role="group",
            aria_label=f"{titles.chart} Arrow keys go through the methods.",
        )
        for size, kind in zip(SIZES, ("wide", "narrow"), strict=True)
    ]
    heading = tag("figcaption", tag("span", titles.y, class_="sub"))
    return tag("figure", heading, charts, class_="panel single")


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that none other dominates, larger being better in both, by growing first coordinate."""
    front = [i for i, (x, y) in enumerate(points) if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)]
    return sorted(front, key=lambda i: points[i])


def _chart(
    dots: Sequence[Dot],
    front: Sequence[Dot],
    titles: Titles,
    size: tuple[int, int],
    guides: tuple[float | None, float | None],
    log: bool,
    told: str,
) -> Markup:
    width, height = size
    xs = [v for d in dots for v in (*_ends(d.x, d.sd[0]), *(s[0] for s in d.seeds))] + _given(guides[0])
    ys = [v for d in dots for v in (*_ends(d.y, d.sd[1]), *(s[1] for s in d.seeds))] + _given(guides[1])
    x_axis = Axis.around(xs, LEFT, width - RIGHT, log=log)
    y_axis = Axis.around(ys, height - BOTTOM, TOP)
    parts = [frame(x_axis, y_axis, titles.x, vertical=True)]
    if guides[0] is not None:
        parts.append(tag("path", d=f"M{x_axis.at(guides[0])},{TOP}V{height - BOTTOM}", class_="guide"))
    if guides[1] is not None:
        parts.append(tag("path", d=f"M{LEFT},{y_axis.at(guides[1])}H{width - RIGHT}", class_="guide"))
    if len(front) > 1:
        steps = "L".join(f"{x_axis.at(dot.x)},{y_axis.at(dot.y)}" for dot in front)
        parts.append(tag("path", d=f"M{steps}", class_="front"))
    names = _names(dots, x_axis, y_axis, width, _strokes(dots, x_axis, y_axis, guides, size))
    parts += [_dot(dot, x_axis, y_axis) for dot in dots]
    parts += [_name(dot, *names[dot.look.key]) for dot in dots if dot.look.key in names]
    return tag("svg", parts, viewBox=f"0 0 {width} {height}", class_="chart dots", role="img", aria_label=told)


def _name(dot: Dot, x: float, y: float, anchor: str) -> Markup:
    return tag("text", dot.look.label, x=x, y=y, class_=f"s name {anchor}", data_m=dot.look.key)


def _dot(dot: Dot, x_axis: Axis, y_axis: Axis) -> Markup:
    x, y = x_axis.at(dot.x), y_axis.at(dot.y)
    parts: list[Markup] = [
        tag("circle", cx=x_axis.at(a), cy=y_axis.at(b), r=2, class_="seed") for a, b in dot.seeds if len(dot.seeds) > 1
    ]
    (left, right), (low, high) = _ends(dot.x, dot.sd[0]), _ends(dot.y, dot.sd[1])
    if dot.sd[0]:
        parts.append(tag("path", d=f"M{x_axis.at(left)},{y}H{x_axis.at(right)}", class_="whisker"))
    if dot.sd[1]:
        parts.append(tag("path", d=f"M{x},{y_axis.at(low)}V{y_axis.at(high)}", class_="whisker"))
    parts.append(marker(dot.look, x, y))
    return tag("g", parts, class_=f"s {dot.look.css}", data_m=dot.look.key, data_tip=dot.tip, data_at=f"{x} {y}")


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _strokes(
    dots: Sequence[Dot], x_axis: Axis, y_axis: Axis, guides: tuple[float | None, float | None], size: tuple[int, int]
) -> list[Box]:
    """Whiskers, guides and seeds: what names had better not cover."""
    found: list[Box] = []
    for dot in dots:
        x, y = x_axis.at(dot.x), y_axis.at(dot.y)
        (left, right), (low, high) = _ends(dot.x, dot.sd[0]), _ends(dot.y, dot.sd[1])
        found += [(x_axis.at(left), y, x_axis.at(right), y), (x, y_axis.at(high), x, y_axis.at(low))]
        found += [(x_axis.at(a) - 2, y_axis.at(b) - 2, x_axis.at(a) + 2, y_axis.at(b) + 2) for a, b in dot.seeds]
    found += [(x_axis.at(value), TOP, x_axis.at(value), size[1]) for value in _given(guides[0])]
    return found + [(LEFT, y_axis.at(value), size[0], y_axis.at(value)) for value in _given(guides[1])]


def _names(
    dots: Sequence[Dot], x_axis: Axis, y_axis: Axis, width: int, strokes: Sequence[Box]
) -> dict[int, tuple[float, float, str]]:
    """Where names can stand without covering a marker or each other, over as few strokes as possible.

    Those without room are left to the tooltip.
    """
    centres = [(x_axis.at(dot.x), y_axis.at(dot.y)) for dot in dots]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    placed: dict[int, tuple[float, float, str]] = {}
    for dot, (x, y) in zip(dots, centres, strict=True):
        if dot.look.context:
            continue
        long = LETTER * len(dot.look.label)
        places = [
            (x + 9, y + 4, "b", (x + 8, y - 7, x + 9 + long, y + 7)),
            (x - 9, y + 4, "e", (x - 9 - long, y - 7, x - 8, y + 7)),
            (x + 7, y - 8, "b", (x + 6, y - 8 - LINE, x + 7 + long, y - 6)),
            (x + 7, y + 17, "b", (x + 6, y + 7, x + 7 + long, y + 7 + LINE)),
            (x - 7, y - 8, "e", (x - 7 - long, y - 8 - LINE, x - 6, y - 6)),
            (x - 7, y + 17, "e", (x - 7 - long, y + 7, x - 6, y + 7 + LINE)),
            (x, y - 12, "m", (x - long / 2, y - 12 - LINE, x + long / 2, y - 9)),
            (x, y + 21, "m", (x - long / 2, y + 9, x + long / 2, y + 11 + LINE)),
        ]
        free = [
            (sum(_overlap(box, stroke) for stroke in strokes), number)
            for number, (_, _, _, box) in enumerate(places)
            if box[0] >= LEFT and box[2] <= width - 2 and y_axis.end - 4 <= box[1] and box[3] <= y_axis.start
            if not any(_overlap(box, other) for other in taken)
        ]
        if free:
            left, base, anchor, box = places[min(free)[1]]
            placed[dot.look.key] = (round(left, 1), round(base, 1), anchor)
            taken.append(box)
    return placed


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _ends(centre: float, sd: float | None) -> tuple[float, float]:
    return centre - (sd or 0), centre + (sd or 0)


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]
