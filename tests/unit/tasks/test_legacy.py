"""The per-batch averages of older tables, from the same pass."""

import math

import numpy as np
import pytest
import torch

from mtl.tasks import MetricGroup, depth_metrics, normals_metrics, segmentation_metrics, with_legacy
from tests.unit.tasks import slow
from tests.unit.tasks.test_metrics import C, depth, feed, normals, segmentation

CPU = torch.device("cpu")
CUT = [2, 2, 4, 1, 2]


def of_batches(function, prediction, target, cut):
    """Plain mean of `function` over the batches that have a valid pixel."""
    values = []
    for p, t in zip(prediction.split(cut), target.split(cut), strict=True):
        if t[:, -1].any():
            values.append(function(p.numpy(), t.numpy()))
    return sum(values) / len(values)


@pytest.mark.parametrize("cut", [CUT, [2, 2, 1, 6], [11], [1] * 11], ids=str)  # the fifth image has no valid pixel
def test_legacy_values_are_means_over_batches_beside_the_exact_ones(cut):
    references = {
        "angle_mean": lambda p, t: slow.angles(p, t).mean(),
        "angle_median": lambda p, t: np.median(slow.angles(p, t)),
        "within_22_5": lambda p, t: 100 * (slow.angles(p, t) < 22.5).mean(),
    }
    prediction, target = normals()
    metrics = with_legacy(normals_metrics())
    found = feed(MetricGroup(metrics, CPU), prediction, target, cut).compute()
    exact = feed(MetricGroup(normals_metrics(), CPU), prediction, target, cut).compute()
    assert {name: value for name, value in found.items() if not name.endswith("_legacy")} == exact
    assert len(found) == 2 * len(exact)
    for name, reference in references.items():
        assert found[f"{name}_legacy"] == pytest.approx(of_batches(reference, prediction, target, cut), rel=1e-6)
    if len(cut) > 1:
        assert found["angle_median_legacy"] != pytest.approx(found["angle_median"], rel=1e-6)


def test_legacy_depth():
    prediction, target = depth()
    found = feed(MetricGroup(with_legacy(depth_metrics()), CPU), prediction, target, CUT).compute()
    for name, reference in {
        "abs_err": lambda p, t: np.abs(slow.errors(p, t)[0]).mean(),
        "rel_err": lambda p, t: np.mean(np.abs(slow.errors(p, t)[0]) / slow.errors(p, t)[1]),
    }.items():
        assert found[f"{name}_legacy"] == pytest.approx(of_batches(reference, prediction, target, CUT), rel=1e-6)


def test_directions_and_the_primary_metric_stay():
    metrics = with_legacy(normals_metrics())
    assert next(iter(metrics)) == "angle_mean"
    for name in normals_metrics():
        assert metrics[name](CPU).higher_is_better == metrics[f"{name}_legacy"](CPU).higher_is_better


def test_parts_add_up_and_nothing_valid_is_not_a_number():
    prediction, target = depth()
    make = with_legacy(depth_metrics())["abs_err_legacy"]
    whole = feed(make(CPU), prediction, target, CUT)
    first, second = (
        feed(make(CPU), prediction[:4], target[:4], CUT[:2]),
        feed(make(CPU), prediction[4:], target[4:], CUT[2:]),
    )
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)
    target[:, -1] = 0
    assert math.isnan(feed(make(CPU), prediction, target, CUT).compute())


def test_a_confusion_matrix_has_no_legacy_form():
    assert with_legacy(segmentation_metrics(C)).keys() == segmentation_metrics(C).keys()
    group = MetricGroup(with_legacy(segmentation_metrics(C)), CPU)
    assert len(feed(group, *segmentation(), [11]).statistics) == 1
