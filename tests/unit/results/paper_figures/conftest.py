"""Figures as objects: nothing is written, so that a test costs little."""

import importlib

import pytest

MODULES = ("front", "radar", "profile", "group_sizes", "exploration", "shares", "affinities", "group_counts")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, instead of files."""
    figures = []
    for name in MODULES:
        module = importlib.import_module(f"mtl.results.paper_figures.{name}")
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure) or (path, path))
    return figures
