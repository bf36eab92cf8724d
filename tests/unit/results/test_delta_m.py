"""Delta_m against published rows.

Origin of the numbers: NYUv2, SegNet-MTAN; single-task row of CAGrad (BASE in nash-mtl, experiments/nyuv2/utils.py);
published rows as reprinted in LibMTL, examples/nyu/results/segnet_results.pdf, Table 2. The Delta_m beside each row has
the papers' sign (negative = better), recomputed from the row: (mean over metrics, mean over tasks).
"""

import pytest

from mtl.errors import UserError
from mtl.results.delta_m import delta_m_metric_mean, delta_m_task_mean

METRICS = {
    "segmentation": {"miou": True, "pix_acc": True},
    "depth": {"abs_err": False, "rel_err": False},
    "normal": {"mean": False, "median": False, "within_11_25": True, "within_22_5": True, "within_30": True},
}
SINGLE_TASK = [38.30, 63.76, 0.6754, 0.2780, 25.01, 19.21, 30.14, 57.20, 69.15]
PUBLISHED = {
    "LS": ([39.29, 65.33, 0.5493, 0.2263, 28.15, 23.96, 22.09, 47.50, 61.08], 5.59, -0.88),
    "MGDA": ([30.47, 59.90, 0.6070, 0.2555, 24.88, 19.45, 29.18, 56.88, 69.36], 1.38, 1.66),
    "Nash-MTL": ([40.13, 65.93, 0.5261, 0.2171, 25.26, 20.08, 28.40, 55.47, 68.15], -4.05, -7.65),
}


def nested(values):
    numbers = iter(values)
    return {task: {metric: next(numbers) for metric in metrics} for task, metrics in METRICS.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_both_definitions_are_the_published_ones_with_the_sign_flipped(name):
    values, metric_mean, task_mean = PUBLISHED[name]
    arguments = nested(values), nested(SINGLE_TASK), METRICS
    assert delta_m_metric_mean(*arguments) == pytest.approx(-metric_mean, abs=0.005)
    assert delta_m_task_mean(*arguments) == pytest.approx(-task_mean, abs=0.005)


def test_positive_is_better_in_both_directions():
    baseline = {"a": {"x": 50.0}}
    for define in (delta_m_task_mean, delta_m_metric_mean):
        assert define({"a": {"x": 55.0}}, baseline, {"a": {"x": True}}) == pytest.approx(10.0)
        assert define({"a": {"x": 55.0}}, baseline, {"a": {"x": False}}) == pytest.approx(-10.0)
        assert define({"a": {"x": -9.0}}, {"a": {"x": -10.0}}, {"a": {"x": True}}) == pytest.approx(10.0)
        assert define(baseline, baseline, {"a": {"x": True}}) == 0.0


def test_definitions_weigh_tasks_differently():
    method = {"a": {"x": 110.0}, "b": {"y": 100.0, "z": 100.0, "w": 100.0}}
    baseline = {task: dict.fromkeys(metrics, 100.0) for task, metrics in method.items()}
    directions = {task: dict.fromkeys(metrics, True) for task, metrics in method.items()}
    assert delta_m_task_mean(method, baseline, directions) == pytest.approx(5.0)
    assert delta_m_metric_mean(method, baseline, directions) == pytest.approx(2.5)


@pytest.mark.parametrize("define", [delta_m_task_mean, delta_m_metric_mean])
@pytest.mark.parametrize(("baseline", "match"), [({"a": {"x": 0.0}}, "a/x = 0"), ({}, "single-task value of a/x")])
def test_unusable_baseline_is_named(define, baseline, match):
    with pytest.raises(UserError, match=match):
        define({"a": {"x": 1.0}}, baseline, {"a": {"x": True}})
    assert issubclass(UserError, ValueError)


def test_nothing_to_average_is_refused():
    with pytest.raises(UserError, match="at least one metric"):
        delta_m_task_mean({}, {}, {})
