"""The methods of configs/strategy: what they are, where they are documented, which presets they have."""

import inspect
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from mtl.aggregation import GramianWeighting
from mtl.config.build import config_directory
from mtl.strategies import (
    BilevelStrategy,
    DoubleSamplingStrategy,
    GradientStrategy,
    LookaheadAffinityStrategy,
    LossWeightingStrategy,
    RoamingStrategy,
    RotoGradStrategy,
    SequentialStrategy,
    SimultaneousStrategy,
)

PARTS = ("aggregator", "grouping", "meta", "weighting")
"""Arguments of a strategy that hold the method's mathematics: the first that is given; else the strategy does."""
FAMILIES: dict[type, str] = {
    LossWeightingStrategy: "loss weighting",
    GradientStrategy: "Jacobian",  # Gramian, where the aggregator needs no more
    SequentialStrategy: "sequential",
    SimultaneousStrategy: "simultaneous",
    DoubleSamplingStrategy: "double sampling",
    BilevelStrategy: "bilevel",
    RotoGradStrategy: "model",
    RoamingStrategy: "model",
    LookaheadAffinityStrategy: "affinity",
}
"""Strategy class -> family of its methods."""


@dataclass(frozen=True)
class Method:
    """One file of configs/strategy.

    Attributes:
        name: Of the file, and on the command line.
        path: The file.
        node: Its content.
        strategy: The class that makes the step.
        documented: The class whose docstring describes the method.
        presets: Names of the files in configs/strategy/NAME, sorted.
    """

    name: str
    path: Path
    node: dict[str, Any]
    strategy: type
    documented: type
    presets: tuple[str, ...]

    @property
    def family(self) -> str:
        """What kind of method it is."""
        assert self.strategy in FAMILIES, f"Add {self.strategy.__name__} to FAMILIES in {__file__}."
        if issubclass(self.documented, GramianWeighting):
            return "Gramian"
        return FAMILIES[self.strategy]

    @property
    def levels(self) -> tuple[str, ...]:
        """Where it can compare task gradients at its other defaults, its own level first; empty if it does not."""
        default = self.node.get("level")
        if default is None:
            return ()
        allowed: tuple[str, ...] = instantiate(self.node, _convert_="all").aggregator.levels
        return (default, *(level for level in allowed if level != default))

    @property
    def comment(self) -> str:
        """The comment that the file begins with, in one line."""
        lines = itertools.takewhile(
            lambda line: line.startswith("#"), self.path.read_text(encoding="utf-8").splitlines()
        )
        return " ".join(line.removeprefix("#").strip() for line in lines)

    @property
    def paragraphs(self) -> list[str]:
        """The docstring's paragraphs."""
        return re.split(r"\n\s*\n", inspect.getdoc(self.documented) or "")

    @property
    def source(self) -> str:
        """What follows `Source:` in the file's first comment, else in the docstring, in one line; empty if nowhere."""
        return self.comment.partition("Source: ")[2] or self._paragraph("Source:")

    @property
    def deviations(self) -> str:
        """The paragraph that begins with `**Deviations.**`, in one line, without that word; empty if there is none."""
        return self._paragraph("**Deviations.**")

    def _paragraph(self, start: str) -> str:
        found = [text for text in self.paragraphs if text.startswith(start)]
        return " ".join(found[0].removeprefix(start).split()) if found else ""


def catalog() -> list[Method]:
    """Every method, by name."""
    return [_read(path) for path in sorted((config_directory() / "strategy").glob("*.yaml"))]


def _read(path: Path) -> Method:
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(node, dict)
    content = {str(key): value for key, value in node.items()}
    strategy = get_object(content["_target_"])
    parts = [content[part] for part in PARTS if content.get(part) is not None]
    documented = get_object(parts[0]["_target_"]) if parts else strategy
    presets = tuple(sorted(file.stem for file in path.with_suffix("").glob("*.yaml")))
    return Method(path.stem, path, content, strategy, documented, presets)
