"""Figures of tables: what they draw is what the table holds."""

import itertools
import random
from dataclasses import replace

import pytest

from mtl.config.build import config_directory
from mtl.config.figures import figure_main
from mtl.config.sweeps import plan_table
from mtl.errors import UserError
from mtl.results.assignment import assign
from mtl.results.definition import load_definition
from mtl.results.paper_figures import METHODS_KINDS, TABLE_KINDS, figure_names, load_figure
from mtl.results.paper_figures.points import non_dominated, split_row
from mtl.results.paper_table import build_table
from tests.unit.results.paper_figures.synthetic import runs_of

ROOT = config_directory()
FIGURES = {name: load_figure(ROOT / "figure", name) for name in figure_names(ROOT / "figure")}
TWO = {"left": ["accuracy"], "right": ["accuracy"]}
WEIGHTS = "strategy.weighting.weights"
SHORT = "sener2018/multimnist_short"


def table_of(figure, name, tmp_path, tasks, value, keep=lambda job: True, **changes):
    """The figure's table, with its grid in parts, of runs that were not trained."""
    definition = load_definition(ROOT / "table", name)
    plan = plan_table(definition)
    runs = runs_of(plan, tmp_path, tasks, value, experiment=definition.experiment, keep=keep, **changes)
    jobs = list(plan.jobs)
    if "grid" in FIGURES[figure].options:
        grid = FIGURES[figure].options["grid"]
        definition, jobs = split_row(definition, jobs, grid["row"], grid["parameter"])
    return build_table(definition, assign(definition, jobs, runs)), runs


def accuracy(job, task, metric, generator):
    """The higher rate is better for one half of the weights, the lower one for the other."""
    left = float(job.overrides.get(WEIGHTS, "[0.5,0.5]").strip("[]").split(",")[0])
    best = "0.05" if left < 0.5 else "0.01"
    gain = left if task == "left" else 1 - left
    return 90 + 4 * gain**0.5 - (0 if job.overrides["optimizer.lr"] == best else 1) + generator.gauss(0, 0.01)


def points_of(axes, marker):
    return [
        (float(x), float(y))
        for line in axes.lines
        if line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_point_dominates(seed):
    """Against the definition: removing a point of the front, and only such a point, shrinks the dominated region."""
    generator = random.Random(seed)
    points = [(generator.randint(0, 6), generator.randint(0, 6)) for _ in range(12)]
    higher = (generator.random() < 0.5, generator.random() < 0.5)

    def region(of):
        def covered(x, y):
            return any((a >= x if higher[0] else a <= x) and (b >= y if higher[1] else b <= y) for a, b in of)

        return {point for point in itertools.product(range(7), repeat=2) if covered(*point)}

    front = non_dominated(points, higher)
    assert region(front) == region(points)
    assert front == sorted(set(front))
    assert all(region([p for p in front if p != one]) != region(front) for one in front)


def test_every_point_of_the_grid_has_its_own_learning_rate(tmp_path, drawn):
    table, _ = table_of("sener2018/figure3", SHORT, tmp_path, TWO, accuracy)
    parts = [row for row in table.rows if row.label.startswith("static")]
    rates = {row.definition.where[WEIGHTS]: row.chosen[0].choice.rpartition(" ")[2] for row in parts}
    assert len(rates) == 7
    assert all(rate == ("0.05" if float(w.strip("[]").split(",")[0]) < 0.5 else "0.01") for w, rate in rates.items())
    TABLE_KINDS["front"](table, FIGURES["sener2018/figure3"], tmp_path / "x")
    (axes,) = drawn[0].axes
    crosses = points_of(axes, "x")
    assert len(crosses) == 7
    line = next(line for line in axes.lines if line.get_label() == "front of the grid search")
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == non_dominated(crosses, (True, True))
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert [name for name in names if name.startswith("mgda")] == ["mgda (3 seeds)", "mgda_ub (3 seeds)"]
    uniform = next(row for row in table.rows if row.label == "uniform")
    seeds = {(values["left accuracy"], values["right accuracy"]) for values in uniform.per_seed.values()}
    assert seeds <= set(points_of(axes, "."))


def test_published_values_are_hollow_and_at_their_place(tmp_path, drawn):
    table, _ = table_of("sener2018/figure3", SHORT, tmp_path, TWO, accuracy, keep=lambda job: job.seed == 0)
    definition = FIGURES["sener2018/figure3"]
    TABLE_KINDS["front"](table, definition, tmp_path / "x")
    TABLE_KINDS["front"](table, replace(definition, options={**definition.options, "published": True}), tmp_path / "x")
    hollow = [
        {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in figure.axes[0].lines if is_hollow(line)}
        for figure in drawn
    ]
    assert hollow[0] == set()
    assert hollow[1] == {(97.23, 95.90), (96.46, 94.99), (96.47, 95.29), (96.27, 94.84), (97.26, 95.90)}
    assert "hollow: as published" in [text.get_text() for text in drawn[1].legends[0].get_texts()]


def is_hollow(line):
    return line.get_fillstyle() == "none" and len(line.get_xdata()) == 1


def test_a_front_without_runs_says_what_to_do(tmp_path):
    table, _ = table_of("sener2018/figure3", SHORT, tmp_path, TWO, accuracy, keep=lambda job: False)
    with pytest.raises(UserError, match="plan=true"):
        TABLE_KINDS["front"](table, FIGURES["sener2018/figure3"], tmp_path / "x")


def test_the_radar_shows_every_attribute_once_with_the_published_error(tmp_path, drawn):
    definition = FIGURES["sener2018/figure2"]
    charts = definition.options["charts"]
    assert sorted(i for columns in charts.values() for i in columns) == list(range(40))
    assert [len(columns) for columns in charts.values()] == [17, 23]
    name = "sener2018/celeba_attributes"
    table = build_table(load_definition(ROOT / "table", name), assign(load_definition(ROOT / "table", name), [], []))
    TABLE_KINDS["radar"](table, definition, tmp_path / "x")
    easy, hard = drawn[0].axes
    assert easy.get_title() == "easy attributes, as published"
    assert len(easy.lines) == len(hard.lines) == 5
    line = next(line for line in easy.lines if line.get_label() == "mgda_ub")
    wanted = [1.08, 0.56, 1.43, 1.08, 4.13, 4.60, 3.60, 4.52, 3.54, 3.46, 2.16, 3.81, 4.23, 3.16, 4.87, 3.03, 3.51]
    assert list(line.get_ydata()) == [*wanted, 1.08]


def test_the_profile_is_of_the_published_errors_and_ours(tmp_path, drawn):
    tasks = {"segmentation": ["miou"], "instance": ["abs_err"], "disparity": ["abs_err"]}
    values = {"segmentation": 50.0, "instance": 204.8, "disparity": 4.0}
    table, _ = table_of(
        "sener2018/figure4",
        "sener2018/cityscapes",
        tmp_path,
        tasks,
        lambda job, task, metric, generator: values[task],
        keep=lambda job: job.seed == 0 and job.overrides["optimizer.lr"] == "0.01",
    )
    TABLE_KINDS["profile"](table, FIGURES["sener2018/figure4"], tmp_path / "x")
    first, second, third = drawn[0].axes
    wanted = ((first, 50.0, 0.25), (second, 50.0, 0.9), (third, 0.25, 0.9))
    for axes, x, y in wanted:
        assert points_of(axes, "v")[0] == (pytest.approx(x), pytest.approx(y))  # uniform
        assert len([line for line in axes.lines if is_hollow(line)]) == 5
    assert points_of(first, "D")[-1] == (66.63, pytest.approx(1 / 2.54))  # mgda_ub as published


def test_performance_and_time_stand_at_the_number_of_groups(tmp_path, drawn):
    sizes = {"2": 20, "5": 8, "10": 4, "20": 2}

    def groups(job):
        names = {"uniform": 1, "igd": 40, "igd_per_task": 40}
        return sizes.get(job.overrides.get("strategy.grouping.group_size")) or names[job.overrides["strategy"]]

    metrics = ["f1", "precision", "recall", "accuracy", "error"]
    table, _ = table_of(
        "pascal2021/groups",
        "pascal2021/celeba_groups",
        tmp_path,
        {"Smiling": metrics, "Male": metrics},
        lambda job, task, metric, generator: 50.0 + groups(job) + 0.01 * job.seed,
        keep=lambda job: (
            job.overrides["optimizer.lr"] == "0.001" and job.seed < 2 and job.row.startswith(("igd", "uniform"))
        ),
        seconds=lambda job: 5.0 * groups(job),
    )
    TABLE_KINDS["group_sizes"](table, FIGURES["pascal2021/groups"], tmp_path / "x")
    performance, time = drawn[0].axes
    assert time.get_ylabel() == "CPU seconds of training"
    lines = [line for line in performance.lines if len(line.get_xdata()) == 6 and line.get_marker() in ("o", "s")]
    assert len(lines) == 2
    for line in lines:
        assert list(line.get_xdata()) == [1, 2, 4, 8, 20, 40]
        assert list(line.get_ydata()) == pytest.approx([50.005 + x for x in (1, 2, 4, 8, 20, 40)])
    (_, times) = (line for line in time.lines if line.get_marker() in ("o", "s"))
    assert list(times.get_ydata()) == [10.0 * x for x in (1, 2, 4, 8, 20, 40)]


@pytest.mark.parametrize("name", FIGURES)
def test_a_definition_names_a_kind_and_a_table_that_has_what_it_draws(name):
    definition = FIGURES[name]
    assert (definition.kind in TABLE_KINDS) != (definition.kind in METHODS_KINDS)
    assert (definition.kind in TABLE_KINDS) == (definition.table is not None)
    if definition.table is None:
        return
    table = load_definition(ROOT / "table", definition.table)
    titles, labels = {column.title for column in table.columns}, {row.label for row in table.rows}
    named = {axis["column"] for axis in definition.options.get("axes", ())}
    assert named <= titles
    rows = {row for points in definition.options.get("series", {}).values() for row in points.values()}
    assert rows | ({definition.options["grid"]["row"]} if "grid" in definition.options else set()) <= labels
    assert name in table.figures


def test_the_figures_of_a_table_exist():
    for path in (ROOT / "table").rglob("*.yaml"):
        table = load_definition(ROOT / "table", str(path.relative_to(ROOT / "table").with_suffix("")))
        assert set(table.figures) <= set(FIGURES), table.name


def test_the_command_writes_both_formats_and_plans_what_a_figure_lacks(tmp_path, capsys):
    arguments = ["figure=sener2018/figure4", f"runs={tmp_path / 'none'}", f"out={tmp_path}"]
    assert figure_main(arguments) == 0
    assert (tmp_path / "sener2018_figure4.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "sener2018_figure4.pdf").read_bytes().startswith(b"%PDF")
    capsys.readouterr()
    assert figure_main(["figure=sener2018/figure3", f"table={SHORT}", f"runs={tmp_path / 'none'}", "plan=true"]) == 0
    out = capsys.readouterr().out
    assert "python scripts/train.py -m sweep=sener2018/multimnist_short/static seed=0" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figure=sener2018/figure1"], "is no figure. The figures are"),
        (["runs=x"], "`figure` is missing"),
        (["figure=list", "plan=1"], "`plan` should be true or false"),
        (["figure=sener2018/figure3", "strategy=mgda"], "give `table=...`"),
        (["figure=pascal2021/exploration", "seed=0", "runs=."], "takes runs, out, experiment and strategy"),
        (["figure=pascal2021/exploration", "runs=nowhere"], "reads run directories"),
    ],
)
def test_bad_arguments_are_one_message(arguments, words, capsys):
    assert figure_main(arguments) == 1
    assert words in capsys.readouterr().err
