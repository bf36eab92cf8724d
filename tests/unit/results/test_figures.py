"""Figures: written, of the right size, the same again; refused where they make no sense."""

import struct

import pytest

from mtl.errors import UserError
from mtl.results import figures
from mtl.results.figures import common_primary_metric, learning_curves, scatter_two_tasks
from mtl.results.tables import compare
from tests.unit.results.test_runs import write_run


@pytest.fixture
def runs(tmp_path):
    made = [write_run(tmp_path, t, values={t: 90.0}) for t in ("left", "right")]
    made += [write_run(tmp_path, f"u{s}", seed=s, values={"left": 80.0 + s, "right": 70.0}) for s in (0, 1)]
    return [*made, write_run(tmp_path, "m", "mgda"), write_run(tmp_path, "lost", "mgda", 1, status="diverged")]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    saved, save = [], figures.save
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(figure) or save(figure, path))
    return saved


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_scatter_is_written_twice_and_names_every_method(runs, tmp_path, drawn):
    png, pdf = scatter_two_tasks(compare(runs), tmp_path / "new" / "accuracy.png")
    assert (png.name, pdf.name) == ("accuracy.png", "accuracy.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    data = png.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1920, 1260)  # 6.4 in × 4.2 in at 300 dpi
    (axes,) = drawn[0].axes
    assert labels(drawn[0]) == ["single task", "uniform", "mgda (1 not completed)"]
    assert axes.get_xlabel() == "left: test accuracy (%)"
    assert axes.get_title(loc="right") == "top right is better"
    assert sum(list(line.get_xdata()) == [80.0, 81.0] for line in axes.lines) == 1  # the two seeds of uniform
    assert sum(list(line.get_xdata()) == [80.5] for line in axes.lines) == 1  # and their mean
    again, _ = scatter_two_tasks(runs, tmp_path / "again")
    assert again.read_bytes() == data


def test_better_corner_follows_the_direction(tmp_path, drawn):
    scatter_two_tasks([write_run(tmp_path, "u", higher=False)], tmp_path / "x.png")
    assert drawn[0].axes[0].get_title(loc="right") == "bottom left is better"


@pytest.mark.parametrize("tasks", [["a"], ["a", "b", "c"]])
def test_scatter_needs_exactly_two_tasks(tmp_path, tasks):
    run = write_run(tmp_path, "u", values=dict.fromkeys(tasks, 1.0))
    with pytest.raises(UserError, match=f"exactly two tasks. Found {len(tasks)}"):
        scatter_two_tasks([run], tmp_path / "x.png")
    assert common_primary_metric(compare([run])) is None


def test_scatter_needs_a_metric_of_both_tasks(runs, tmp_path):
    with pytest.raises(UserError, match=r"`miou`; there are left/accuracy, right/accuracy"):
        scatter_two_tasks(runs, tmp_path / "x.png", "miou")
    assert common_primary_metric(compare(runs)) == "accuracy"


def test_learning_curves_have_a_panel_per_task_and_the_mean_over_seeds(runs, tmp_path, drawn):
    png, pdf = learning_curves(runs, tmp_path / "curves.png")
    assert png.is_file()
    assert pdf.is_file()
    left, _ = panels = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["left", "right"]
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in left.lines}
    assert curves["uniform"] == ([1, 2], [80.5, 80.5])
    assert curves["single task"] == ([1, 2], [90.0, 90.0])
    assert labels(drawn[0]) == ["single task", "mgda (1 not completed)", "uniform"]


def test_learning_curves_of_a_split_without_evaluations_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="split 'train'"):
        learning_curves(runs, tmp_path / "curves.png", split="train")
