"""Figure definitions: configs/figure/<paper>/<figure>.yaml, read and checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtl.errors import ConfigError
from mtl.results.paper_table import PaperTable
from mtl.results.runs import Method

_KEYS = ("title", "kind", "table", "options")


@dataclass(frozen=True)
class FigureDefinition:
    """What a figure shows.

    Attributes:
        name: `paper/figure`.
        title: One line.
        kind: Which drawing.
        table: The table it is a view of; None for a figure of what runs recorded, of a table or not.
        options: Of the drawing.
    """

    name: str
    title: str
    kind: str
    table: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


TableKind = Callable[[PaperTable, FigureDefinition, Path], tuple[Path, Path]]
"""(table, definition, where to write) -> PNG and PDF."""
MethodsKind = Callable[[Sequence[Method], FigureDefinition, Path], tuple[Path, Path]]
"""(methods with their runs, definition, where to write) -> PNG and PDF."""


def figure_names(root: Path) -> list[str]:
    """All definitions below `root`, as `paper/figure`."""
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def load_figure(root: Path, name: str) -> FigureDefinition:
    """Read the definition `name` below `root`.

    Raises:
        ConfigError: There is none, or it has other than the known keys.
    """
    if name not in figure_names(root):
        raise ConfigError(f"`{name}` is no figure. The figures are {', '.join(figure_names(root))}.")
    node = yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8"))
    unknown = sorted(set(node) - set(_KEYS))
    missing = sorted({"title", "kind"} - set(node))
    if unknown or missing:
        raise ConfigError(f"Figure `{name}`: unknown keys {unknown}, missing keys {missing}. Keys: {', '.join(_KEYS)}.")
    return FigureDefinition(name, node["title"], node["kind"], node.get("table"), node.get("options") or {})
