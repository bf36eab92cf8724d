"""What every figure of matplotlib's shares: a canvas without a display, files in two formats."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#444444"
_RC: Any = {
    "backend": "Agg",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
}
DPI = 300
PIXELS = 3e6
"""Larger figures get fewer dots an inch: a PNG is for pages, the PDF has all of it."""


@contextmanager
def canvas(width: float, height: float) -> Iterator["Figure"]:
    """A figure in inches, outside pyplot: no global state, no display."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        yield Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> tuple[Path, Path]:
    """Write a PNG at up to 300 dpi and a PDF; both are functions of the figure alone."""
    stem = path.with_suffix("") if path.suffix in (".png", ".pdf") else path
    png, pdf = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".pdf")
    png.parent.mkdir(parents=True, exist_ok=True)
    width, height = figure.get_size_inches()
    dpi = min(DPI, int((PIXELS / (width * height)) ** 0.5))
    figure.savefig(png, dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
    figure.savefig(pdf, dpi=DPI, metadata={"CreationDate": None})
    return png, pdf
