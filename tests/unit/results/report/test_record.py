"""One pass over records: what the charts are made from."""

import json
import math

import pytest

from mtl.results.report.record import read_records
from mtl.results.runs import Method
from tests.unit.results.test_runs import write_run


def record_of(tmp_path, *events_by_seed, strategy="mgda"):
    runs = []
    for seed, events in enumerate(events_by_seed):
        run = write_run(tmp_path, f"{strategy}{seed}", strategy, seed)
        (run.path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        runs.append(run)
    return read_records(Method(strategy, tuple(runs)), "val")


def step(number, **fields):
    return {"event": "step", "step": number, **fields}


def diagnostics(number, **fields):
    return {"event": "diagnostics", "step": number, **fields}


def test_curves_take_the_later_of_two_records_and_leave_out_the_undefined(tmp_path):
    def evaluation(epoch, left, right):
        metrics = {"left": {"accuracy": left}, "right": {"accuracy": right}}
        return {"event": "evaluation", "epoch": epoch, "step": epoch, "metrics": {"val": metrics}}

    first = [evaluation(1, 10.0, None), evaluation(2, 20.0, 1.0), evaluation(2, 30.0, 2.0)]
    curves = record_of(tmp_path, first, [evaluation(1, 20.0, None)]).curves
    assert [(p.x, p.mean, p.n) for p in curves["left"]] == [(1, 15.0, 2), (2, 30.0, 1)]
    assert [(p.x, p.mean) for p in curves["right"]] == [(2, 2.0)]


def test_weights_are_shares_of_their_absolute_sum_and_kept_as_recorded(tmp_path):
    record = record_of(
        tmp_path, [step(1, weights={"left": 3.0, "right": -1.0}), step(2, weights={"left": 0, "right": 0})]
    )
    assert [p.mean for p in record.weights["left"]] == [0.75]
    assert [p.mean for p in record.weights["right"]] == [0.25]
    assert [p.mean for p in record.raw_weights["right"]] == [-1.0, 0.0]


def test_gradients_measured_by_the_recorder_are_kept_apart_from_those_of_the_method(tmp_path):
    record = record_of(
        tmp_path,
        [
            step(1, gradient_norms={"left": 1.0, "right": 10.0}),
            step(2, gradient_norms={"left": 0.0, "right": 1.0}),
            diagnostics(1, gradient_norms={"left": 100.0, "right": 1.0}),
        ],
    )
    assert [p.mean for p in record.scalars["own_norm_ratio"]] == [pytest.approx(1.0)]  # decimal logarithm
    assert [p.mean for p in record.scalars["norm_ratio"]] == [pytest.approx(2.0)]


def test_diagnostics_in_the_units_of_the_charts(tmp_path):
    event = diagnostics(
        1,
        cosines=[[1.0, -0.5], [-0.5, 1.0]],
        magnitude_similarity=[[1.0, 0.8], [0.8, 1.0]],
        conflict_rate=0.25,
        condition_number=100.0,
        angle_to_uniform=30.0,
        update_norm=0.01,
        path_length=6.0,
        displacement=2.0,
        update_share={"conv": {"left": 0.75, "right": 0.25}},
    )
    record = record_of(tmp_path, [event])
    expected = {
        "mean_cosine": -0.5,
        "magnitude_similarity": 0.8,
        "conflict_rate": 25.0,
        "condition_number": 2.0,
        "angle_to_uniform": 30.0,
        "update_norm": -2.0,
        "path_ratio": 3.0,
    }
    assert {name: series[0].mean for name, series in record.scalars.items()} == pytest.approx(expected)
    assert record.cosines == ((1.0, -0.5), (-0.5, 1.0))
    assert record.update_share == {"conv": {"left": 0.75, "right": 0.25}}


@pytest.mark.parametrize("value", [None, math.nan, "x"])
def test_what_is_not_a_number_is_left_out(tmp_path, value):
    event = diagnostics(
        1, angle_to_uniform=value, cosines=[[1.0, None], [None, 1.0]], weights={"left": None, "right": 1.0}
    )
    record = record_of(tmp_path, [event])
    assert dict(record.scalars) == {}
    assert [p.mean for p in record.weights["right"]] == [1.0]
    assert "left" not in record.weights


def test_groups_and_affinities(tmp_path):
    apart, together = [["left"], ["right"]], [["right", "left"]]
    named = {"affinity/left->left": 1.0, "affinity/left->right": 0.5, "affinity/right->left": -0.5, "num_groups": 2.0}
    events = [step(1, groups=apart), step(2, groups=together), step(3, groups=together), step(4, groups=apart)]
    record = record_of(
        tmp_path, [*events, step(5, diagnostics={"affinity/left->right": 9.0}), step(6, diagnostics=named)]
    )
    assert record.together == ((1.0, 0.5), (0.5, 1.0))
    assert [p.mean for p in record.group_count] == [2, 1, 1, 2]
    assert record.affinity == ((1.0, 0.5), (-0.5, None))  # the last measurement


def test_lost_runs_and_other_events_do_not_count(tmp_path):
    run = write_run(tmp_path, "lost", "mgda", 7, status="diverged")
    (run.path / "metrics.jsonl").unlink()
    record = read_records(Method("mgda", (run,)), "val")
    assert (record.tasks, dict(record.curves)) == ((), {})
    assert dict(record_of(tmp_path, [{"event": "start", "weights": {"left": 1.0}}], strategy="x").weights) == {}
