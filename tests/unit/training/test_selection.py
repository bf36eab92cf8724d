"""Which evaluation a run reports, also where a metric is undefined."""

import math
from functools import partial

import pytest

from mtl.tasks import AbsoluteError, Accuracy, CrossEntropy, TaskSpec
from mtl.training.selection import describe_selection, select

SPECS = (
    TaskSpec("a", 2, "classification", CrossEntropy(), {"accuracy": Accuracy}),
    TaskSpec("b", 1, "regression", CrossEntropy(), {"error": partial(AbsoluteError)}),
)
NAN = math.nan


def history(*pairs):
    """One evaluation per (accuracy of a, error of b)."""
    return [
        {"epoch": epoch, "metrics": {split: {"a": {"accuracy": a}, "b": {"error": b}} for split in ("val", "test")}}
        for epoch, (a, b) in enumerate(pairs, start=1)
    ]


@pytest.mark.parametrize(
    ("pairs", "epoch", "score", "tasks", "evaluations"),
    [
        ([(1.0, 5.0), (3.0, 5.0), (3.0, 5.0)], 2, -1.0, [], 0),
        ([(NAN, 5.0), (1.0, 5.0), (3.0, 5.0)], 3, -1.0, [], 1),
        ([(1.0, 5.0), (NAN, 0.0), (0.0, 5.0)], 1, -2.0, [], 1),
        ([(1.0, NAN), (3.0, NAN), (2.0, NAN)], 2, 3.0, ["b"], 0),
        ([(1.0, NAN), (3.0, NAN), (2.0, 4.0)], 3, -1.0, [], 2),
        ([(NAN, NAN), (NAN, NAN)], 2, None, ["a", "b"], 2),
        ([(NAN, math.inf), (1.0, math.inf)], 2, 1.0, ["b"], 1),
        ([(1.0, NAN), (NAN, 1.0)], 2, None, [], 2),
    ],
)
def test_an_undefined_metric_is_never_chosen_and_is_counted(pairs, epoch, score, tasks, evaluations):
    metrics, found = describe_selection("best_val", history(*pairs), SPECS)
    assert str(metrics) == str(history(*pairs)[epoch - 1]["metrics"])
    assert found == {
        "rule": "best_val",
        "epoch": epoch,
        "validation_score": score,
        "undefined_tasks": tasks,
        "undefined_evaluations": evaluations,
    }


def test_what_is_chosen_in_the_end_was_chosen_when_it_was_the_newest():
    """The trainer keeps a checkpoint of an evaluation only at the time when that one is chosen."""
    values = (NAN, 1.0, 2.0)
    pairs = [(a, b) for a in values for b in values]
    for start in range(len(pairs) ** 3):
        chosen = [pairs[start // len(pairs) ** k % len(pairs)] for k in range(3)]
        entries = history(*chosen)
        kept = [
            e["epoch"] for n, e in enumerate(entries, 1) if select("best_val", entries[:n], SPECS)[0] is e["metrics"]
        ]
        assert select("best_val", entries, SPECS)[1] == kept[-1]


def test_no_validation_split_no_score():
    entries = [{"epoch": 1, "metrics": {"test": {"a": {"accuracy": 1.0}, "b": {"error": 1.0}}}}]
    assert describe_selection("last", entries, SPECS)[1] == {"rule": "last", "epoch": 1, "validation_score": None}
    assert describe_selection("last", [], SPECS)[0] == {}
