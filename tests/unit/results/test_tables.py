"""The comparison of methods."""

import csv
import io
import random
from dataclasses import replace

import pytest
from rich.console import Console

from mtl.errors import UserError
from mtl.results.rendering import to_csv, to_markdown, to_rich
from mtl.results.tables import compare
from tests.unit.results.test_runs import write_run


@pytest.fixture
def runs(tmp_path):
    """Single-task at (90, 80) in the mean, uniform below, mgda above it, one mgda run diverged."""
    made = []
    for seed, shift in ((0, -0.9), (1, 0.9)):
        made += [
            write_run(tmp_path, f"left{seed}", seed=seed, values={"left": 90.0 + shift}),
            write_run(tmp_path, f"right{seed}", seed=seed, values={"right": 80.0}),
            write_run(tmp_path, f"mgda{seed}", "mgda", seed, {"left": 99.0 + shift, "right": 80.0}),
            write_run(tmp_path, f"pcgrad{seed}", "pcgrad", seed, {"left": 90.0, "right": 80.0}),
            write_run(tmp_path, f"uniform{seed}", "uniform", seed, {"left": 81.0, "right": 72.0}),
        ]
    return [*made, write_run(tmp_path, "mgda2", "mgda", 2, status="diverged")]


def rows_of(comparison):
    return {row.label: row for row in comparison.rows}


def test_rows_values_and_order(runs):
    comparison = compare(runs)
    assert [row.label for row in comparison.rows] == ["single_task", "uniform", "mgda", "pcgrad"]
    rows, (left, right) = rows_of(comparison), comparison.columns
    assert (left.task, right.task) == ("left", "right")
    assert rows["single_task"].values[left].mean == pytest.approx(90.0)
    assert rows["single_task"].values[right].mean == 80.0
    assert rows["mgda"].values[left].sd == pytest.approx(0.9 * 2**0.5)
    assert comparison.delta_m == ("Delta_m",)  # the two definitions agree with one metric a task
    assert rows["mgda"].delta_m["Delta_m"].mean == pytest.approx(5.0)
    assert rows["mgda"].delta_per_seed[1]["Delta_m"] == pytest.approx(5.5)  # against the mean baseline, not seed 1's
    assert rows["uniform"].delta_m["Delta_m"].mean == pytest.approx(-10.0)
    assert rows["single_task"].delta_m["Delta_m"].mean == 0.0
    assert {label: row.mean_rank for label, row in rows.items()} == {
        "single_task": None,
        "uniform": 3.0,
        "mgda": 1.25,  # first and tied first
        "pcgrad": 1.75,
    }


def test_every_run_is_counted(runs):
    comparison = compare(runs)
    rows = rows_of(comparison)
    assert sum(len(row.method.runs) for row in comparison.rows) == len(runs) == 11
    assert rows["mgda"].seeds_text == "2 (+1 diverged)"
    text = to_markdown(comparison)
    assert "11 (10 completed, 1 diverged)" in text
    assert "WARNING: mgda, seed 2, diverged" in text
    assert "loss of left is NaN at step 7" in text
    lost = [row for row in csv.DictReader(io.StringIO(to_csv(comparison))) if row["status"] == "diverged"]
    assert [(row["method"], row["seed"], row["left/accuracy"]) for row in lost] == [("mgda", "2", "")]


def test_method_without_completed_runs_keeps_its_row(tmp_path):
    made = [write_run(tmp_path, "a"), write_run(tmp_path, "b", "mgda", status="failed")]
    assert "| mgda | - | - | - | - | - | - | - | 0 (+1 failed) |" in to_markdown(compare(made))


def test_cost_is_per_step_and_adds_up_over_single_task_networks(runs):
    rows = rows_of(compare(runs))
    assert list(rows["mgda"].cost.values()) == [4.0, 2.0, 1.0]
    assert list(rows["single_task"].cost.values()) == [8.0, 4.0, 2.0]


def test_order_of_runs_does_not_matter(runs):
    expected = compare(runs)
    for seed in range(5):
        shuffled = random.Random(seed).sample(runs, len(runs))
        assert to_markdown(compare(shuffled)) == to_markdown(expected)
        assert to_csv(compare(shuffled)) == to_csv(expected)


def test_mixed_settings_are_refused_unless_allowed(runs, tmp_path):
    other = write_run(tmp_path, "other", "mgda", 0, setting_hash="07he70000", config_hash="zzzzzzzz", dataset="celeba")
    with pytest.raises(UserError, match=r"(?s)2 settings.*celeba.*allow_mixed=true"):
        compare([*runs, other])
    comparison = compare([*runs, other], allow_mixed=True)
    assert any("settings are mixed" in note for note in comparison.footnotes)
    assert rows_of(comparison)["mgda (zzzzzz)"].delta_m == {}  # no baseline of its own setting
    assert any("no single-task runs of setting 07he70" in note for note in comparison.footnotes)
    assert rows_of(comparison)["mgda (mgda-l)"].delta_m["Delta_m"].mean == pytest.approx(5.0)


@pytest.mark.parametrize("left_only", [True, False])
def test_missing_baseline_leaves_delta_m_empty_and_orders_by_rank(runs, left_only):
    kept = [run for run in runs if not run.is_single_task or (left_only and "left" in run.tasks)]
    comparison = compare(kept)
    assert all(row.delta_m == {} for row in comparison.rows)
    assert [row.label for row in comparison.rows][-3:] == ["uniform", "mgda", "pcgrad"]
    assert any("WARNING: no single-task" in note and "stays empty" in note for note in comparison.footnotes)
    assert rows_of(comparison)["mgda"].mean_rank == 1.25


def test_zero_baseline_is_named_and_leaves_delta_m_empty(tmp_path):
    made = [write_run(tmp_path, t, values={t: 0.0}) for t in ("left", "right")] + [write_run(tmp_path, "u")]
    comparison = compare(made)
    assert all(row.delta_m == {} for row in comparison.rows)
    assert any("left/accuracy = 0" in note for note in comparison.footnotes)


def test_both_definitions_where_a_task_has_several_metrics(tmp_path):
    higher = {"error": False, "accuracy": True}
    made = [
        write_run(tmp_path, "a", values={"a": {"accuracy": 50.0, "error": 2.0}}, higher=higher),
        write_run(tmp_path, "b", values={"b": 50.0}),
        write_run(tmp_path, "m", "mgda", values={"a": {"accuracy": 50.0, "error": 1.0}, "b": 50.0}, higher=higher),
    ]
    comparison = compare(made)
    cells = rows_of(comparison)["mgda"].delta_m
    assert cells["Delta_m (task mean)"].mean == pytest.approx(12.5)
    assert cells["Delta_m (metric mean)"].mean == pytest.approx(50 / 3)
    assert "a error ↓" in to_markdown(comparison)


def test_repeats_of_a_seed_do_not_raise_n(tmp_path):
    made = [write_run(tmp_path, f"u{i}", values={"left": 80.0 + i, "right": 1.0}) for i in (0, 1)]
    (row,) = (comparison := compare(made)).rows
    cell = row.values[comparison.columns[0]]
    assert (cell.mean, cell.sd, cell.n) == (80.5, None, 1)
    assert any("uniform: seeds [0] ran more than once" in note for note in comparison.footnotes)


def test_several_commits_or_a_dirty_tree_warn(runs, tmp_path):
    assert not any("uncommitted" in note for note in compare(runs).footnotes)
    dirty = write_run(tmp_path, "dirty", "igd", git={"commit": "d" * 40, "dirty": True})
    assert any(note.startswith("WARNING: 2 commits, 1 of 12 runs") for note in compare([*runs, dirty]).footnotes)


def test_the_note_on_the_data_stands_under_the_table(runs):
    assert not any(note.startswith("Data:") for note in compare(runs).footnotes)
    noted = [replace(run, data_note="NYUv2 (pseudo normals)") for run in runs]
    assert "Data: NYUv2 (pseudo normals)." in compare(noted).footnotes
    mixed = compare([*noted[:-1], runs[-1]]).footnotes
    assert any("differently prepared data are mixed" in note for note in mixed)


def test_footnotes_name_sign_rule_competitors_and_length(runs):
    text = to_markdown(compare(runs))
    for expected in (
        "POSITIVE = better",
        "left (2 seeds), right (2 seeds)",
        "Selection rule: last",
        "ties get the average rank, competitors: mgda, pcgrad, uniform. Not ranked: single_task",
        "2 epochs, 100 steps",
    ):
        assert expected in text


def test_disagreement_about_a_direction_is_refused(tmp_path):
    made = [write_run(tmp_path, "a"), write_run(tmp_path, "b", "mgda", higher=False)]
    with pytest.raises(UserError, match="disagree about left/accuracy"):
        compare(made)


def test_no_runs_is_refused():
    with pytest.raises(UserError, match="at least one run"):
        compare([])


def test_terminal_table_has_all_rows_and_fits_80_columns(runs):
    comparison = compare(runs)
    table = to_rich(comparison)
    assert table.row_count == len(comparison.rows)
    assert Console(width=200).measure(table).minimum <= 80


def test_an_undefined_metric_is_counted_and_leaves_delta_m_and_rank_empty(runs, tmp_path):
    lost = write_run(tmp_path, "stch0", "stch", 0, {"left": 95.0, "right": None})
    kept = write_run(tmp_path, "stch1", "stch", 1, {"left": 95.0, "right": 85.0})
    comparison = compare([*runs, lost, kept])
    row = rows_of(comparison)["stch"]
    assert row.delta_m == {}
    assert row.mean_rank is None
    assert any(
        "stch has undefined metrics" in note and "right accuracy (1 of 2 seeds)" in note
        for note in comparison.footnotes
    )
    assert rows_of(comparison)["mgda"].delta_m["Delta_m"].mean == pytest.approx(5.0)  # others are as before
    assert rows_of(comparison)["mgda"].mean_rank == 1.25


def test_an_undefined_baseline_leaves_every_delta_m_empty(tmp_path):
    made = [write_run(tmp_path, "l", values={"left": 90.0}), write_run(tmp_path, "r", values={"right": None})]
    comparison = compare([*made, write_run(tmp_path, "u")])
    assert all(row.delta_m == {} for row in comparison.rows)
    assert any("single-task value of right is undefined" in note for note in comparison.footnotes)


def test_what_selection_on_validation_left_out_is_said(tmp_path):
    selection = {"rule": "best_val", "undefined_tasks": ["right"], "undefined_evaluations": 3}
    comparison = compare([write_run(tmp_path, "u", selection=selection), write_run(tmp_path, "v", seed=1)])
    assert any("metric is undefined: right (1 runs)" in note for note in comparison.footnotes)
    assert any("could not choose 3 evaluations" in note for note in comparison.footnotes)
