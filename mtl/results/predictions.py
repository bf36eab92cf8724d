"""Pictures of dense predictions beside the ground truth: PNG and PDF, drawn without a display."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mtl.results.colours import VOID, DenseTask, Map, Rgb, paint, palette, predicted_map, true_map, value_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 220
WIDTH = 7.2
"""Inches: the text width of a two-column paper; 1584 pixels."""
HEIGHT = 8.8
"""Inches: about the text height of a page; panels shrink to fit into it, but not below `PANELS[0]`."""
PANELS = (0.9, 1.5)
"""Inches: smallest width of a panel for the sake of `HEIGHT`, largest width."""
MOST_IN_A_ROW = 10
"""Panels; with more, each task of a sample gets a row of its own."""
TRUTH = "ground truth"
_GAP, _WIDE_GAP, _BAR, _SIDEWAYS, _EDGE, _TITLE, _LINE = 0.03, 0.1, 0.36, 0.2, 0.03, 0.17, 0.15
"""Inches: between panels, between groups of them, for a colour bar, for a title at the side, at the right and lower
edge, for a title, of a line of the legend."""
_RC: Any = {"backend": "Agg", "font.size": 7, "axes.linewidth": 0.4, "pdf.fonttype": 42, "image.composite_image": False}


@dataclass(frozen=True)
class Column:
    """The predictions that stand under one label.

    Attributes:
        label: Title of the column.
        predictions: Task -> outputs (S, C, H, W) for the samples of the picture; a task without any stays empty.
    """

    label: str
    predictions: Mapping[str, Tensor]


@dataclass(frozen=True)
class Grid:
    """Where the panels are, in inches from the upper left corner.

    With few panels a sample is one row: RGB, then for each task the truth and the columns. With more than
    `MOST_IN_A_ROW` each task is a row of its own, and RGB stands beside the first one.

    Attributes:
        bars: For each task, whether it has a colour bar.
        columns: Number of columns, the truth included.
        samples: Number of samples.
        shape: (H, W) of the maps.
        names: Entries of the legend.
    """

    bars: tuple[bool, ...]
    columns: int
    samples: int
    shape: tuple[int, int]
    names: tuple[str, ...]

    @property
    def in_a_row(self) -> bool:
        """Whether a sample is one row."""
        return 1 + len(self.bars) * self.columns <= MOST_IN_A_ROW

    @property
    def panel(self) -> tuple[float, float]:
        """(width, height) of a panel."""
        groups, rows = (len(self.bars), 1) if self.in_a_row else (1, len(self.bars))
        bars = sum(self.bars) if self.in_a_row else any(self.bars)
        beside = _SIDEWAYS + _EDGE + bars * _BAR + groups * (_WIDE_GAP + (self.columns - 1) * _GAP)
        beside += 0 if self.in_a_row else _SIDEWAYS
        below = self.top + 0.5 + self.samples * (rows * _GAP + (0 if self.in_a_row else _WIDE_GAP))
        ratio = self.shape[0] / self.shape[1]
        by_width = (WIDTH - beside) / (1 + groups * self.columns)
        by_height = max(PANELS[0], (HEIGHT - below) / (self.samples * rows) / ratio)
        width = min(PANELS[1], by_width, by_height)
        return width, width * ratio

    @property
    def top(self) -> float:
        """Height of the titles."""
        return 0.05 + _TITLE * (2 if self.in_a_row else 1)

    @property
    def per_line(self) -> int:
        """Most entries in a line of the legend."""
        return max(1, min(7, int(self.size[0] / (0.35 + 0.062 * max(map(len, self.names))))))

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) of the figure without its legend."""
        x, y = self.corner(self.samples - 1, len(self.bars) - 1, self.columns - 1)
        width, height = self.panel
        bar = _BAR if (self.bars[-1] if self.in_a_row else any(self.bars)) else 0.0
        return x + width + bar + _EDGE, y + height

    @property
    def whole(self) -> tuple[float, float]:
        """(width, height) of the figure."""
        width, height = self.size
        return width, height + 0.12 + _LINE * -(-len(self.names) // self.per_line)

    def corner(self, sample: int, task: int, column: int) -> tuple[float, float]:
        """(x, y) of the upper left corner of a panel; `column` 0 is the truth, `column` -1 the RGB image."""
        width, height = self.panel
        if self.in_a_row:
            y = self.top + sample * (height + _GAP)
            group = self.columns * width + (self.columns - 1) * _GAP + _WIDE_GAP
            x = _SIDEWAYS + width + _WIDE_GAP + task * group + sum(self.bars[:task]) * _BAR
        else:
            y = self.top + sample * (len(self.bars) * (height + _GAP) + _WIDE_GAP)
            y += max(task, 0) * (height + _GAP) if column >= 0 else 0.0
            x = _SIDEWAYS + width + _WIDE_GAP + _SIDEWAYS
        return (_SIDEWAYS, y) if column < 0 else (x + column * (width + _GAP), y)

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """(left, bottom, width, height) in shares of the figure, as matplotlib wants it."""
        whole_width, whole_height = self.whole
        return x / whole_width, 1 - (y + height) / whole_height, width / whole_width, height / whole_height


def draw_predictions(
    images: Tensor,
    tasks: Sequence[DenseTask],
    targets: Mapping[str, Tensor],
    columns: Sequence[Column],
    rows: Sequence[str],
    path: Path,
) -> tuple[Path, Path]:
    """Draw images, truth and predictions.

    Scalars have one colour scale a sample, over the true values; a prediction beyond it has the colour of its end,
    and the bar a point there.

    Args:
        images: (S, 3, H, W) in [0, 1].
        tasks: In the order of the picture.
        targets: Task -> (S, H, W) or (S, C + 1, H, W).
        columns: The runs, in the order of the picture.
        rows: S names of the samples.
        path: Where to write; `.png` and `.pdf` stand for its suffix.

    Returns:
        Paths of the PNG and the PDF.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    truth = {task.name: [true_map(task, target) for target in targets[task.name]] for task in tasks}
    maps = [truth] + [
        {
            task.name: [predicted_map(task, prediction) for prediction in column.predictions[task.name]]
            for task in tasks
            if task.name in column.predictions
        }
        for column in columns
    ]
    entries = legend_entries(tasks, maps)
    bars = tuple(task.kind == "scalar" for task in tasks)
    height, width = images.shape[-2:]
    grid = Grid(bars, 1 + len(columns), len(rows), (height, width), tuple(name for name, _ in entries))
    with mpl.rc_context(_RC):
        figure = Figure(figsize=grid.whole)
        _draw_titles(figure, grid, tasks, [TRUTH, *(column.label for column in columns)], rows)
        for sample, image in enumerate(images):
            pixels = np.rint(image.clamp(0, 1).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
            _draw_panel(figure, grid, (sample, -1, -1), pixels)
            for number, task in enumerate(tasks):
                span = value_range(task, truth[task.name][sample])
                shown = [found[task.name][sample] if task.name in found else None for found in maps]
                for column, part in enumerate(shown):
                    if part is not None:
                        _draw_panel(figure, grid, (sample, number, column), paint(task, part, span))
                if task.kind == "scalar":
                    _draw_bar(figure, grid, (sample, number), span, [part for part in shown if part is not None])
        _draw_legend(figure, entries, grid.per_line)
        return _save(figure, path)


def legend_entries(tasks: Sequence[DenseTask], maps: Sequence[Mapping[str, Sequence[Map]]]) -> list[tuple[str, str]]:
    """(name, colour) of the classes and of void; of more than 20 classes, those that occur in the picture."""
    entries = []
    for task in tasks:
        if task.kind != "classes":
            continue
        occurring = set(range(len(task.classes)))
        if len(occurring) > 20:
            parts = [part for found in maps for part in found.get(task.name, ())]
            occurring = {int(label) for part in parts for label in np.unique(part.values[part.valid])}
        colours = palette(len(task.classes))
        entries += [(task.classes[label], colours[label]) for label in sorted(occurring)]
    return [*entries, ("void", VOID)]


def _draw_titles(
    figure: "Figure", grid: Grid, tasks: Sequence[DenseTask], labels: Sequence[str], rows: Sequence[str]
) -> None:
    width, height = grid.panel
    size = _fit(("RGB", *labels), width, 8)
    beside = _fit((*rows, *(() if grid.in_a_row else (task.title for task in tasks))), height, 7)
    bold: dict[str, Any] = {"fontsize": 8, "fontweight": "bold"}

    def write(x: float, y: float, text: str, **style: Any) -> None:
        left, bottom, _, _ = grid.box(x, y, 0, 0)
        figure.text(left, bottom, text, ha="center", **style)

    above = grid.top - 0.05
    write(_SIDEWAYS + width / 2, above, "RGB", va="bottom", fontsize=size)
    for group in range(len(tasks) if grid.in_a_row else 1):
        for column, label in enumerate(labels):
            x, _ = grid.corner(0, group, column)
            write(x + width / 2, above, label, va="bottom", fontsize=size)
    for sample, row in enumerate(rows):
        _, y = grid.corner(sample, -1, -1)
        write(_SIDEWAYS - 0.05, y + height / 2, row, va="center", rotation=90, fontsize=beside)
        for number, task in enumerate(tasks):
            x, y = grid.corner(sample, number, 0)
            if not grid.in_a_row:
                write(x - 0.1, y + height / 2, task.title, va="center", rotation=90, fontsize=beside)
            elif not sample:
                right, _ = grid.corner(0, number, grid.columns - 1)
                write((x + right + width) / 2, above - _TITLE, task.title, va="bottom", **bold)


def _fit(texts: Sequence[str], inches: float, most: float) -> float:
    """The font size, at most `most`, in which every text is at most `inches` long; a letter is about 0.58 wide."""
    return min(most, *(inches * 72 / (0.58 * len(text)) for text in texts))


def _draw_panel(figure: "Figure", grid: Grid, place: tuple[int, int, int], pixels: Rgb) -> None:
    axes = figure.add_axes(grid.box(*grid.corner(*place), *grid.panel), xticks=[], yticks=[])
    axes.imshow(pixels, interpolation="nearest", aspect="auto")  # no colour that the map does not have


def _draw_bar(
    figure: "Figure", grid: Grid, place: tuple[int, int], span: tuple[float, float], shown: Sequence[Map]
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, height = grid.panel
    x, y = grid.corner(*place, grid.columns - 1)
    axes = figure.add_axes(grid.box(x + width + 0.05, y, 0.07, height))
    below = any((part.values[part.valid] < span[0]).any() for part in shown)
    above = any((part.values[part.valid] > span[1]).any() for part in shown)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(ScalarMappable(Normalize(*span), "viridis"), cax=axes, extend=extend[below, above])
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=6, length=2, width=0.4, pad=1)
    bar.ax.locator_params(nbins=4)


def _draw_legend(figure: "Figure", entries: Sequence[tuple[str, str]], per_line: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, edgecolor="black", linewidth=0.3, label=name) for name, colour in entries]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(per_line, len(handles)),
        frameon=False,
        fontsize=7,
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.2,
        labelspacing=0.3,
        borderpad=0.1,
    )


def _save(figure: "Figure", path: Path) -> tuple[Path, Path]:
    png, pdf = path.with_suffix(".png"), path.with_suffix(".pdf")
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    figure.savefig(pdf, dpi=DPI, metadata={"CreationDate": None})
    return png, pdf
