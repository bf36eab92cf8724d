"""Figures of the papers: each kind is a function of a table or of runs, each figure a file in configs/figure."""

from mtl.results.paper_figures.affinities import affinity_by_option, affinity_curves, affinity_maps
from mtl.results.paper_figures.definition import (
    FigureDefinition,
    MethodsKind,
    TableKind,
    figure_names,
    load_figure,
)
from mtl.results.paper_figures.exploration import exploration
from mtl.results.paper_figures.front import front
from mtl.results.paper_figures.group_counts import group_counts
from mtl.results.paper_figures.group_sizes import group_sizes
from mtl.results.paper_figures.profile import profile
from mtl.results.paper_figures.radar import radar
from mtl.results.paper_figures.shares import shares_by_layer, shares_by_step

TABLE_KINDS: dict[str, TableKind] = {"front": front, "radar": radar, "profile": profile, "group_sizes": group_sizes}
"""Kinds that are drawn from a table: its rows, after the choice on validation, and published values."""
METHODS_KINDS: dict[str, MethodsKind] = {
    "exploration": exploration,
    "shares_by_step": shares_by_step,
    "shares_by_layer": shares_by_layer,
    "affinity_curves": affinity_curves,
    "affinity_maps": affinity_maps,
    "affinity_by_option": affinity_by_option,
    "group_counts": group_counts,
}
"""Kinds that are drawn from what runs recorded while they trained."""

__all__ = ["METHODS_KINDS", "TABLE_KINDS", "FigureDefinition", "figure_names", "load_figure"]
