"""Candidates that are compared on some seeds only: what is asked for, what is chosen, what is said."""

from dataclasses import replace

import pytest

from mtl.results.assignment import assign
from mtl.results.choice import choose_row, needed
from mtl.results.paper_table import build_table
from tests.unit.results.test_paper_tables import DEFINITION, PLAN, make, row_of, text_of

STAGED = replace(DEFINITION, choose_on=(0,))
UNIFORM = [job for job in PLAN if job.row == "uniform"]
VALIDATION = {"0.01": 70.0, "0.1": 60.0}


def runs_of(root, jobs, validation=VALIDATION, **changes):
    return [make(root, job, 80.0 + job.seed, validation[job.overrides["optimizer.lr"]], **changes) for job in jobs]


def keys(jobs):
    return {(job.overrides["optimizer.lr"], job.seed) for job in jobs}


def test_first_every_candidate_on_the_seed_of_the_choice(tmp_path):
    assert keys(needed(UNIFORM, [], {0})) == {("0.01", 0), ("0.1", 0)}
    half = runs_of(tmp_path, [job for job in UNIFORM if job.seed == 0][:1])
    assert keys(needed(UNIFORM, half, {0})) == {("0.01", 0), ("0.1", 0)}


def test_then_the_chosen_one_on_the_others(tmp_path):
    first = runs_of(tmp_path, [job for job in UNIFORM if job.seed == 0])
    assert keys(needed(UNIFORM, first, {0})) == {("0.01", 0), ("0.1", 0), ("0.01", 1), ("0.01", 2)}
    assert keys(needed(UNIFORM, first)) == keys(UNIFORM)


def test_every_row_and_task_goes_on_by_itself(tmp_path):
    single = [job for job in PLAN if job.row == "single_task"]
    left = runs_of(tmp_path, [job for job in single if job.tasks == "[left]" and job.seed == 0])
    found = needed([*single, *UNIFORM], left, {0})
    assert sum(job.seed > 0 for job in found) == 2
    assert {job.tasks for job in found if job.seed > 0} == {"[left]"}


def test_later_seeds_cannot_move_the_choice(tmp_path):
    """Were they counted, 0.01 would lose, and a candidate with more seeds would win by having them."""
    first = runs_of(tmp_path / "a", [job for job in UNIFORM if job.seed == 0])
    later = runs_of(tmp_path / "b", [job for job in UNIFORM if job.seed > 0], {"0.01": 0.0, "0.1": 99.0})
    (chosen,) = choose_row(UNIFORM, [*first, *later], {0})
    assert (chosen.choice, chosen.seeds, chosen.compared, chosen.candidates) == ("lr 0.01", (0,), 2, 2)
    assert {run.seed for run in chosen.runs} == {0, 1, 2}
    (default,) = choose_row(UNIFORM, [*first, *later])
    assert (default.choice, default.seeds) == ("lr 0.1", (0, 1, 2))


def test_a_candidate_that_diverged_on_the_seed_of_the_choice_is_not_chosen(tmp_path):
    first = [job for job in UNIFORM if job.seed == 0]
    good = runs_of(tmp_path / "a", [job for job in first if job.overrides["optimizer.lr"] == "0.1"])
    lost = runs_of(tmp_path / "b", [job for job in first if job.overrides["optimizer.lr"] == "0.01"], status="diverged")
    (chosen,) = choose_row(UNIFORM, [*good, *lost], {0})
    assert (chosen.choice, chosen.compared, chosen.candidates) == ("lr 0.1", 1, 2)
    assert keys(needed(UNIFORM, [*good, *lost], {0})) == {("0.01", 0), ("0.1", 0), ("0.1", 1), ("0.1", 2)}


@pytest.fixture
def complete(tmp_path):
    first = [job for job in PLAN if job.seed == 0]
    then = [job for job in PLAN if job.seed > 0 and job.overrides["optimizer.lr"] == "0.01"]
    return runs_of(tmp_path, [*first, *then])


def test_the_table_says_what_was_compared_and_on_which_seed(complete):
    plan = needed(PLAN, complete, STAGED.choose_on)
    table = build_table(STAGED, assign(STAGED, PLAN, complete))
    text = text_of(table, plan, complete)
    line = next(line for line in text.splitlines() if line.startswith("| uniform") and "lr 0.01" in line)
    assert [cell.strip() for cell in line.split("|")][-5:-1] == ["lr 0.01", "2/2", "0", "3"]
    assert "on seed 0 alone, and only what was chosen was run with further seeds" in text
    assert "provisional" not in text
    assert "most completed seeds; the choice" not in text


def test_without_that_rule_the_same_runs_are_called_a_choice_among_one(complete):
    """Candidates with one seed cannot compete with one that has three: then the table must not look like a search."""
    table = build_table(DEFINITION, assign(DEFINITION, PLAN, complete))
    text = text_of(table, PLAN, complete)
    assert "uniform: only 1 of 2 candidates had the most completed seeds; the choice was among them" in text
    assert "provisional" in text


def test_a_missing_later_seed_is_missing_and_makes_the_row_provisional(complete):
    kept = [run for run in complete if not (run.config_hash == "uniform0.01" and run.seed == 2)]
    table = build_table(STAGED, assign(STAGED, PLAN, kept))
    text = text_of(table, needed(PLAN, kept, STAGED.choose_on), kept)
    assert "uniform: 1 of its runs are missing" in text
    assert row_of(table, "uniform").seeds_text == "2"


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_choice_does_not_depend_on_the_unit_of_a_metric(tmp_path, unit):
    """One candidate is 20 % better on the left, the other 10 % on the right, whatever the left is measured in."""
    first = [job for job in UNIFORM if job.seed == 0]
    values = {"0.01": (60.0 * unit, 44.0), "0.1": (50.0 * unit, 48.4)}
    runs = []
    for run in runs_of(tmp_path, first):
        left, right = values["0.01" if run.config_hash == first[0].config_hash else "0.1"]
        runs.append(
            replace(run, metrics={**run.metrics, "val": {"left": {"accuracy": left}, "right": {"accuracy": right}}})
        )
    (chosen,) = choose_row(UNIFORM, runs, {0})
    assert chosen.choice == "lr 0.01"
