"""Equal-budget views."""

import json

import pytest

from mtl.results.budget import common_budget, metrics_within
from tests.unit.results.test_runs import write_run


def run_with(path, name, values, rule="last", optimizer_steps=100.0, seconds=10.0, **cost):
    """100 batches, evaluations evenly spread; `values`: test accuracy of left at each (val is its negative order)."""
    run = write_run(
        path,
        name,
        selection={"rule": rule},
        cost={"optimizer_steps": optimizer_steps, "train_seconds": seconds, **cost},
    )
    lines = []
    for index, (val, test) in enumerate(values, start=1):
        metrics = {
            split: {task: {"accuracy": value} for task in ("left", "right")}
            for split, value in (("val", val), ("test", test))
        }
        lines.append({"event": "evaluation", "step": 100 * index // len(values), "metrics": metrics})
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


CURVE = [(1.0, 10.0), (3.0, 20.0), (2.0, 30.0), (4.0, 40.0)]


def test_a_method_with_two_steps_a_batch_is_seen_at_half_its_batches(tmp_path):
    once, twice = run_with(tmp_path, "a", CURVE), run_with(tmp_path, "b", CURVE, optimizer_steps=200.0)
    limit = common_budget([once, twice], "optimizer steps")
    assert limit == 100
    value = [metrics_within(run, "optimizer steps", limit)["test"]["left"]["accuracy"] for run in (once, twice)]
    assert value == [40.0, 20.0]


def test_the_runs_own_rule_is_applied_within_the_budget(tmp_path):
    best = run_with(tmp_path, "a", CURVE, rule="best_val")
    mean = run_with(tmp_path, "b", CURVE, rule="mean_last_10")
    assert metrics_within(best, "training seconds", 7.5)["test"]["left"]["accuracy"] == 20.0
    assert metrics_within(mean, "training seconds", 7.5)["test"]["left"]["accuracy"] == pytest.approx(20.0)


def test_no_evaluation_within_the_budget_is_nothing(tmp_path):
    run = run_with(tmp_path, "a", CURVE)
    assert metrics_within(run, "optimizer steps", 24) is None


def test_a_run_that_does_not_say_what_it_spent_leaves_no_common_budget(tmp_path):
    silent = write_run(tmp_path, "x", cost={})
    assert common_budget([silent, run_with(tmp_path, "a", CURVE)], "training seconds") is None


def test_cpu_seconds_are_a_budget_of_their_own_where_every_run_has_them(tmp_path):
    """One run was stretched by other work on the machine: in CPU seconds both had the same time."""
    quick = run_with(tmp_path, "a", CURVE, seconds=10.0, train_cpu_seconds=8.0)
    stretched = run_with(tmp_path, "b", CURVE, seconds=40.0, train_cpu_seconds=8.0)
    limits = [common_budget([quick, stretched], budget) for budget in ("training seconds", "CPU seconds of training")]
    assert limits == [10.0, 8.0]
    values = [
        metrics_within(stretched, budget, limit)["test"]["left"]["accuracy"]
        for budget, limit in zip(("training seconds", "CPU seconds of training"), limits, strict=True)
    ]
    assert values == [10.0, 40.0]
    assert common_budget([quick, run_with(tmp_path, "c", CURVE)], "CPU seconds of training") is None


def test_an_evaluation_that_is_not_a_number_is_never_the_best(tmp_path):
    run = run_with(tmp_path, "a", [(None, None), (1.0, 5.0)], rule="best_val")
    assert metrics_within(run, "optimizer steps", 100)["test"]["left"]["accuracy"] == 5.0


def test_a_task_without_a_defined_metric_is_left_out_of_the_choice(tmp_path):
    run = run_with(tmp_path, "a", [(1.0, 5.0), (3.0, 6.0), (2.0, 7.0)], rule="best_val")
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["metrics"]["val"]["right"]["accuracy"] = None
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert metrics_within(run, "optimizer steps", 100)["test"]["left"]["accuracy"] == 6.0
