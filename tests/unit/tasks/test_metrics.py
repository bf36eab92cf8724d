"""Every metric against a slow reference, however the split is cut; the conventions at the edges."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.tasks import (
    F1,
    AbsoluteError,
    Accuracy,
    BinaryAccuracy,
    BinaryIoU,
    ErrorRate,
    MeanAngle,
    MeanIoU,
    MedianAngle,
    MetricGroup,
    OptimalF,
    PixelAccuracy,
    Precision,
    Recall,
    RelativeError,
    RootMeanSquaredError,
    WithinAngle,
)
from tests.unit.tasks import slow

N, H, W, C = 11, 9, 7, 5
CUTS = ([11], [1] * 11, [4, 1, 6], [10, 1])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def segmentation():
    """Class 3 is never true but predicted; class 4 is neither; a fifth of the pixels is void."""
    g = rng(1)
    logits = torch.randn(N, C, H, W, generator=g)
    logits[:, 4] = -10
    target = torch.randint(0, 3, (N, H, W), generator=g)
    target[torch.rand(N, H, W, generator=g) < 0.2] = -1
    return logits, target


def with_validity(values, g):
    """One image is invalid throughout, and what is stored at invalid pixels is not a number."""
    valid = (torch.rand(N, 1, H, W, generator=g) < 0.7).float()
    valid[4] = 0
    return torch.cat([values.where(valid == 1, torch.nan), valid], dim=1)


def depth(channels=1):
    g = rng(2)
    true = torch.rand(N, channels, H, W, generator=g) * 9 + 0.05
    return true + torch.randn(N, channels, H, W, generator=g), with_validity(true, g)


def normals(noise=0.7):
    g = rng(3)
    true = functional.normalize(torch.randn(N, 3, H, W, generator=g), dim=1)
    return 3 * (true + noise * torch.randn(N, 3, H, W, generator=g)), with_validity(true, g)


def mask():
    g = rng(4)
    target = (torch.rand(N, H, W, generator=g) < 0.3).long()
    logits = torch.randn(N, 1, H, W, generator=g) + target.unsqueeze(1)
    target[torch.rand(N, H, W, generator=g) < 0.2] = -1
    return logits, target


def attribute():
    g = rng(5)
    target = (torch.rand(N, generator=g) < 0.4).long()
    return torch.randn(N, 1, generator=g) + target.unsqueeze(1), target


def binary(name):
    def reference(logits, targets):
        tn, fp, fn, tp = slow.counts(logits, targets)
        return (
            100
            * {
                "accuracy": (tp + tn) / (tn + fp + fn + tp),
                "error": (fp + fn) / (tn + fp + fn + tp),
                "precision": tp / (tp + fp),
                "recall": tp / (tp + fn),
                "f1": 2 / ((tp + fp) / tp + (tp + fn) / tp),
                "iou": tp / (tp + fp + fn),
            }[name]
        )

    return reference


def relative(p, t, floor=0.0):
    error, true = slow.errors(p, t)
    return np.mean(np.abs(error) / np.maximum(true, floor))


def within(limit):
    return lambda p, t: 100 * (slow.angles(p, t) < limit).mean()


CASES = {
    "miou": (partial(MeanIoU, C), segmentation, lambda p, t: slow.miou(p, t, C)),
    "pixel accuracy": (partial(PixelAccuracy, C), segmentation, slow.pixel_accuracy),
    "absolute": (AbsoluteError, depth, lambda p, t: np.abs(slow.errors(p, t)[0]).mean()),
    "absolute, 2 channels": (AbsoluteError, lambda: depth(2), lambda p, t: np.abs(slow.errors(p, t)[0]).mean()),
    "relative": (RelativeError, depth, relative),
    "relative, floor": (partial(RelativeError, floor=2.0), depth, lambda p, t: relative(p, t, 2.0)),
    "rmse": (RootMeanSquaredError, depth, lambda p, t: math.sqrt((slow.errors(p, t)[0] ** 2).mean())),
    "mean angle": (MeanAngle, normals, lambda p, t: slow.angles(p, t).mean()),
    "median angle": (MedianAngle, normals, lambda p, t: np.median(slow.angles(p, t))),
    "median angle, even": (MedianAngle, lambda: _even(normals), lambda p, t: np.median(slow.angles(p, t))),
    "median angle, odd": (MedianAngle, lambda: _odd(normals), lambda p, t: np.median(slow.angles(p, t))),
    "within 11.25": (partial(WithinAngle, 11.25), lambda: normals(0.2), within(11.25)),
    "within 22.5": (partial(WithinAngle, 22.5), lambda: normals(0.2), within(22.5)),
    "within 30": (partial(WithinAngle, 30), lambda: normals(0.2), within(30)),
    "best F": (OptimalF, mask, slow.best_f),
    "mask iou": (BinaryIoU, mask, binary("iou")),
    "mask accuracy": (BinaryAccuracy, mask, binary("accuracy")),
    "attribute accuracy": (BinaryAccuracy, attribute, binary("accuracy")),
    "attribute error": (ErrorRate, attribute, binary("error")),
    "attribute precision": (Precision, attribute, binary("precision")),
    "attribute recall": (Recall, attribute, binary("recall")),
    "attribute F1": (F1, attribute, binary("f1")),
}


def _odd(make):
    """The same with an odd number of valid pixels."""
    prediction, target = make()
    if int(target[:, -1].sum()) % 2 == 0:
        image, y, x = target[:, -1].nonzero()[0].tolist()
        target[image, -1, y, x] = 0
    return prediction, target


def _even(make):
    prediction, target = _odd(make)
    image, y, x = target[:, -1].nonzero()[0].tolist()
    target[image, -1, y, x] = 0
    return prediction, target


def feed(metric, prediction, target, cut):
    for p, t in zip(prediction.split(cut), target.split(cut), strict=True):
        metric.update(p, t)
    return metric


@pytest.mark.parametrize("name", CASES)
def test_a_metric_is_that_of_the_split_however_it_is_cut(name):
    make, data, reference = CASES[name]
    prediction, target = data()
    expected = reference(prediction.numpy(), target.numpy())
    assert math.isfinite(expected)
    for cut in CUTS:
        metric = feed(make(device="cpu"), prediction, target, cut)
        assert metric.compute() == pytest.approx(expected, rel=1e-6, abs=1e-6), cut


@pytest.mark.parametrize("name", CASES)
def test_states_of_parts_add_up(name):
    make, data, _ = CASES[name]
    prediction, target = data()
    whole = feed(make(device="cpu"), prediction, target, [N])
    first = feed(make(device="cpu"), prediction[:4], target[:4], [3, 1])
    second = feed(make(device="cpu"), prediction[4:], target[4:], [1, 6])
    first.merge(second)
    assert first.states.keys() == whole.states.keys()
    for key, state in whole.states.items():
        torch.testing.assert_close(first.states[key], state, rtol=1e-12, atol=0)
        assert state.is_floating_point() or torch.equal(first.states[key], state)
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_nothing_seen_is_not_a_number(name):
    make, data, _ = CASES[name]
    assert math.isnan(make(device="cpu").compute())
    prediction, target = data()
    if target.ndim == 4:
        target[:, -1] = 0
    else:
        target[:] = -1
    assert math.isnan(feed(make(device="cpu"), prediction, target, [4, 7]).compute())


def test_bfloat16_predictions_are_summed_in_float64():
    prediction, target = depth()
    low = prediction.bfloat16()
    found = feed(AbsoluteError(), low, target, [5, 6]).compute()
    assert found == pytest.approx(np.abs(slow.errors(low.float().numpy(), target.numpy())[0]).mean(), rel=1e-12)


def test_an_absent_class_is_left_out_even_where_it_is_predicted():
    target = torch.tensor([[[0, 0, 1, 1]]])
    logits = functional.one_hot(torch.tensor([[[0, 2, 1, 1]]]), 3).movedim(-1, 1).float()
    metric = MeanIoU(3)
    metric.update(logits, target)
    assert metric.compute() == pytest.approx(100 * (0.5 + 1) / 2)


def test_equal_logits_give_the_first_class():
    metric = PixelAccuracy(3)
    metric.update(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert metric.compute() == 100


def test_a_split_without_positives():
    logits, target = torch.tensor([1.0, -1.0]), torch.tensor([0, 0])
    values = {}
    for make in (F1, Precision, Recall, BinaryIoU, OptimalF):
        metric = make()
        metric.update(logits, target)
        values[make] = metric.compute()
    assert values[F1] == values[Precision] == values[Recall] == 0
    assert math.isnan(values[BinaryIoU])
    assert math.isnan(values[OptimalF])


def test_a_true_value_near_zero_needs_a_floor():
    prediction, target = torch.ones(1, 1, 1, 2), torch.tensor([[[[1e-6, 1.0]], [[1.0, 1.0]]]])
    plain, floored = RelativeError(), RelativeError(floor=0.1)
    plain.update(prediction, target)
    floored.update(prediction, target)
    assert plain.compute() > 1e5
    assert floored.compute() == pytest.approx(5, rel=1e-5)
    with pytest.raises(ConfigError, match="floor"):
        RelativeError(floor=-1.0)


def test_angles_of_known_vectors():
    """0, 90 and 180 degrees are exact, a small angle is not lost, and a vector of length 0 counts as 90 degrees."""
    true = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 4, 1, 1)
    tiny = math.radians(1e-6)
    for vector, expected in (
        ([0, 0, 5], 0),
        ([2, 0, 0], 90),
        ([0, 0, -1e-3], 180),
        ([0, 0, 0], 90),
        ([math.sin(tiny), 0, math.cos(tiny)], 1e-6),
    ):
        for make in (MeanAngle, MedianAngle):
            metric = make()
            metric.update(torch.tensor(vector, dtype=torch.float64).view(1, 3, 1, 1), true.double())
            assert metric.compute() == pytest.approx(expected, abs=1e-10)


def test_a_component_sum_of_zero_is_a_valid_normal():
    true = functional.normalize(torch.tensor([1.0, -1.0, 0.0]), dim=0)
    metric = MeanAngle()
    metric.update(true.view(1, 3, 1, 1), torch.cat([true, torch.ones(1)]).view(1, 4, 1, 1))
    assert metric.states["pixels"] == 1


def test_the_median_of_crowded_bins_stays_within_a_bin():
    """All angles within 1e-3 degrees: some 20000 in each bin. The bound in the documentation is the width of a bin."""
    found = 20 + 1e-3 * torch.rand(500_000, generator=rng(), dtype=torch.float64)
    radians = torch.deg2rad(found)
    prediction = torch.stack([radians.sin(), torch.zeros_like(radians), radians.cos()]).view(1, 3, 1, -1)
    target = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 1, len(found))
    metric = MedianAngle()
    metric.update(prediction, target)
    assert abs(metric.compute() - np.median(found.numpy())) < 180 / 2**22
    assert sum(state.nbytes for state in metric.states.values()) < 64e6


def test_a_prediction_that_is_not_a_number_shows():
    prediction, target = normals()
    prediction[0, 0] = torch.nan
    for make in (MeanAngle, MedianAngle):
        assert math.isnan(feed(make(), prediction, target, [N]).compute())


def test_metrics_of_a_task_share_their_statistics():
    prediction, target = normals()
    makers = {
        "mean": MeanAngle,
        "median": MedianAngle,
        "within": partial(WithinAngle, 30.0),
    }
    group = MetricGroup(makers, torch.device("cpu"))
    feed(group, prediction, target, [5, 6])
    assert len(group.statistics) == 1
    assert group.compute() == {
        name: feed(make(device="cpu"), prediction, target, [5, 6]).compute() for name, make in makers.items()
    }


def test_different_options_are_not_shared():
    makers = {"plain": RelativeError, "floor": partial(RelativeError, floor=3.0), "absolute": AbsoluteError}
    prediction, target = depth()
    group = MetricGroup(makers, torch.device("cpu"))
    feed(group, prediction, target, [5, 6])
    assert len(group.statistics) == 2
    for name, make in makers.items():
        alone = feed(make(device="cpu"), prediction, target, [5, 6])
        assert group.compute()[name] == alone.compute()


def test_groups_of_parts_add_up():
    prediction, target = segmentation()
    makers = {"miou": partial(MeanIoU, C), "pix_acc": partial(PixelAccuracy, C)}
    whole, first, second = (MetricGroup(makers, torch.device("cpu")) for _ in range(3))
    feed(whole, prediction, target, [N])
    feed(first, prediction[:3], target[:3], [3])
    feed(second, prediction[3:], target[3:], [8])
    first.merge(second)
    assert first.compute() == whole.compute()


def test_accuracy_of_classes():
    metric = Accuracy()
    metric.update(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    assert metric.compute() == 75


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ConfigError, match="num_classes"):
        MeanIoU(4).update(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ConfigError, match="last channel"):
        AbsoluteError().update(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ConfigError, match="one logit"):
        F1().update(torch.zeros(3, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="degrees"):
        WithinAngle(12.0)
    with pytest.raises(IndexError):  # a class the task does not have, not a silent void
        PixelAccuracy(3).update(torch.ones(1, 3, 1, 1), torch.full((1, 1, 1), 3))
