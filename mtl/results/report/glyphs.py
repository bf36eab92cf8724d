"""Markers, drawn once on the page and used by name."""

import math

from markupsafe import Markup

from mtl.results.report.markup import breakable, tag
from mtl.results.report.material import Look

SIZE = 4.2
"""Pixels from the centre of a marker to its edge."""


def _polygon(corners: int, turn: float, inner: float | None = None) -> str:
    """A regular polygon, or a star with the given share of the radius at its inner corners."""
    count = corners * (2 if inner else 1)
    radii = [SIZE * 1.15 * (inner if inner and i % 2 else 1) for i in range(count)]
    angles = [math.radians(turn - 90 + 360 * i / count) for i in range(count)]
    return _path([(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)])


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z"


_ARM, _END = SIZE * 0.36, SIZE * 1.05
_PLUS = [(a, b) for a, b in ((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3))] + [
    (-1, 1),
    (-3, 1),
    (-3, -1),
    (-1, -1),
]
_plus = [(x / abs(x) * (_END if abs(x) == 3 else _ARM), y / abs(y) * (_END if abs(y) == 3 else _ARM)) for x, y in _PLUS]
_turned = [((x - y) * math.sqrt(0.5), (x + y) * math.sqrt(0.5)) for x, y in _plus]

PATHS = {
    "dot": f"M{-SIZE},0a{SIZE},{SIZE} 0 1,0 {2 * SIZE},0a{SIZE},{SIZE} 0 1,0 {-2 * SIZE},0Z",
    "square": _path([(-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)]),
    "diamond": _polygon(4, 0),
    "up": _polygon(3, 0),
    "down": _polygon(3, 180),
    "left": _polygon(3, 270),
    "right": _polygon(3, 90),
    "plus": _path(_plus),
    "cross": _path(_turned),
    "hexagon": _polygon(6, 0),
    "pentagon": _polygon(5, 0),
    "star": _polygon(5, 0, 0.45),
}


def definitions() -> Markup:
    """The markers of the page; stands once in it."""
    paths = [tag("path", id=f"k-{name}", d=path) for name, path in PATHS.items()]
    return tag("svg", tag("defs", paths), width=0, height=0, aria_hidden="true", focusable="false", class_="defs")


def marker(look: Look, x: float, y: float) -> Markup:
    """The method's marker at a place of a chart."""
    return tag("use", href=f"#k-{look.marker}", x=x, y=y, class_="k")


def swatch(look: Look) -> Markup:
    """A piece of the method's line with its marker, for legends."""
    return tag(
        "svg",
        tag("path", d="M0,7H26", class_="l"),
        marker(look, 13, 7),
        viewBox="0 0 26 14",
        width=26,
        height=14,
        class_=f"swatch {look.css}",
        aria_hidden="true",
        focusable="false",
    )


def name(look: Look) -> Markup:
    """Swatch and name of a method."""
    return tag("span", swatch(look), tag("span", breakable(look.label, "_"), class_="label"), class_="method")
