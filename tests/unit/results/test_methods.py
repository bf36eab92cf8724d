"""Which configuration stands for a method: in tables, and in what the report says of them."""

import json
from dataclasses import replace

import pytest

from mtl.errors import UserError
from mtl.results.methods import group_methods
from mtl.results.records import read_records, write_records
from mtl.results.report import gather, render
from mtl.results.report.differences import reference_row, verdicts
from mtl.results.runs import mixed_data, read_run
from mtl.results.tables import compare
from tests.unit.results.test_runs import write_run


def make(root, name, strategy, seed, val, test, tasks=("left", "right"), **changes):
    metrics = {split: {task: {"accuracy": v} for task in tasks} for split, v in (("val", val), ("test", test))}
    metrics = {split: values for split, values in metrics.items() if values[tasks[0]]["accuracy"] is not None}
    values = dict.fromkeys(tasks, test)
    return write_run(root, f"{name}_{seed}", strategy, seed, values, **({"metrics": metrics} | changes))


@pytest.fixture
def runs(tmp_path):
    """Two learning rates of uniform; the worse one is first by name, best on test for one seed, and has fewer seeds."""
    made = []
    for task in ("left", "right"):
        made += [make(tmp_path, f"{task}A", "uniform", s, 80 + s, 80 + s, (task,)) for s in range(3)]
        made += [make(tmp_path, f"{task}B", "uniform", 0, 99, 70, (task,), config_hash=f"lucky-{task}")]
    for seed in range(3):
        wave = (0.1, -0.1, 0.3)[seed]
        made += [
            make(tmp_path, "good", "uniform", seed, 81, 81 + wave, config_hash="zz_good"),
            make(tmp_path, "bad", "uniform", seed, 50, 95 + wave, config_hash="aa_bad_"),
            make(tmp_path, "mgda", "mgda", seed, 79, 79 - wave),
        ]
    return made


def rows_of(comparison):
    return {row.label: row for row in comparison.rows}


def test_one_configuration_stands_for_a_strategy_and_the_others_are_marked_and_not_ranked(runs):
    comparison = compare(runs)
    rows = rows_of(comparison)
    assert rows["uniform (zz_goo)"].mean_rank == 1.0
    assert rows["mgda"].mean_rank == 2.0
    assert rows["uniform (aa_bad, not chosen)"].mean_rank is None
    assert [*rows][-1] == "uniform (aa_bad, not chosen)"
    assert any(
        "uniform (zz_goo): " in note and "chosen on val of 2 configurations" in note for note in comparison.footnotes
    )
    assert any("aa_bad" in note and "a candidate that was not chosen" in note for note in comparison.footnotes)


def test_the_report_judges_by_what_was_chosen_on_validation_never_by_test(runs):
    material = gather(runs)
    assert reference_row(material).label == "uniform (zz_goo)"
    assert [set(one.differences) for one in verdicts(material)] == [{"mgda"}]
    page = render(material)
    assert "Largest mean Delta_m against single-task training: uniform (zz_goo) with" in page
    assert "of 2 multi-task methods (1 further configuration not ranked)" in page


def test_more_completed_seeds_come_before_validation(tmp_path):
    made = [make(tmp_path, "many", "mgda", s, 60, 60, config_hash="manymany") for s in range(2)]
    made += [make(tmp_path, "lucky", "mgda", 0, 90, 90, config_hash="luckyone")]
    made += [make(tmp_path, "lost", "mgda", 1, 90, 90, config_hash="luckyone", status="diverged")]
    assert {one.label: one.stands for one in group_methods(made)} == {
        "mgda (luckyo, not chosen)": False,
        "mgda (manyma)": True,
    }


def test_the_baseline_is_chosen_by_the_same_rule(runs):
    """Not the one lucky seed that is best on validation."""
    baseline, *others = [one for one in group_methods(runs) if one.runs[0].is_single_task]
    assert baseline.is_baseline
    assert {run.seed for run in baseline.runs} == {0, 1, 2}
    assert "left is the one of 2 configurations with the most completed seeds" in baseline.note
    assert [one.stands for one in others] == [False, False]
    assert all("not the baseline" in one.note for one in others)


def test_best_single_task_configuration_on_val_is_the_baseline_and_the_other_one_stays(tmp_path):
    runs = [
        write_run(tmp_path, "low", values={"left": 80.0}, config_hash="aaaaaaa"),
        write_run(tmp_path, "high", values={"left": 90.0}, config_hash="bbbbbbb"),
        write_run(tmp_path, "right", values={"right": 70.0}, config_hash="ccccccc"),
    ]
    baseline, other = group_methods(runs)
    assert [run.path.name for run in baseline.runs] == ["high", "right"]
    assert not other.is_baseline
    runs = [write_run(tmp_path, f"{n}2", values={"left": 1.0}, config_hash=n, metrics={}) for n in ("d" * 7, "e" * 7)]
    with pytest.raises(UserError, match="2 configurations"):
        group_methods(runs)


def test_without_validation_no_configuration_is_the_reference_and_the_page_says_why(runs):
    kept = [
        run if run.is_single_task or run.strategy == "mgda" else replace(run, metrics={"test": run.metrics["test"]})
        for run in runs
    ]
    material = gather(kept)
    assert reference_row(material) is None
    assert verdicts(material) == []
    assert [row.label for row in material.competitors] == ["mgda"]
    page = render(material)
    assert (
        "No verdicts about seed noise, for want of a reference: 2 configurations of uniform, and no validation" in page
    )


def test_two_settings_leave_no_reference(runs, tmp_path):
    other = [
        make(tmp_path, "other", "uniform", s, 60, 60 + s, config_hash="0ther_s", setting_hash="0ther") for s in range(2)
    ]
    material = gather([*runs, *other], allow_mixed=True)
    assert verdicts(material) == []
    assert "uniform is there under several settings" in render(material)


def on(run, data):
    return replace(run, data=data)


@pytest.mark.parametrize("seed", [0, 2])
def test_runs_on_different_data_are_no_seeds_of_one_row(runs, seed):
    kinds = [on(run, "b" * 64 if run.strategy == "mgda" and run.seed == seed else "a" * 64) for run in runs]
    with pytest.raises(UserError, match=r"(?s)same data.*2 fingerprints.*allow_mixed=true"):
        compare(kinds)
    comparison = compare(kinds, allow_mixed=True)
    assert {"mgda (mgda-l, data aaaaaa)", "mgda (mgda-l, data bbbbbb)"} <= set(rows_of(comparison))
    assert any(note.startswith("WARNING: data are mixed") for note in comparison.footnotes)
    assert not mixed_data(on(run, "a" * 64 if run.seed else "") for run in runs)  # unknown is not different


def test_single_tasks_have_their_own_data(runs):
    assert not mixed_data(on(run, "+".join(run.tasks)) for run in runs)


def test_the_fingerprint_is_read_and_kept_in_a_file_of_runs(runs, tmp_path):
    file = runs[0].path / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": "d" * 64}))
    kept = [read_run(runs[0].path), runs[1]]
    assert kept[0].data == "d" * 64
    write_records(tmp_path / "x.jsonl", kept, tmp_path, (), ())
    assert [run.data for run in read_records(tmp_path / "x.jsonl")[0]] == ["d" * 64, ""]
