"""Losses against slow references; what is void or invalid has no influence and no gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.tasks import (
    L1,
    L2,
    BalancedBinaryCrossEntropy,
    BinaryCrossEntropy,
    CosineLoss,
    CrossEntropy,
    DenseCrossEntropy,
    MaskedL1,
    MaskedL2,
    OneHotBinaryCrossEntropy,
)
from tests.unit.tasks import slow
from tests.unit.tasks.test_metrics import attribute, depth, mask, normals, segmentation

WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.0]


def pixels(prediction, target):
    """(logits (C,), class) of every pixel that is not void."""
    for image, y, x in np.argwhere(target != -1):
        yield prediction[image, :, y, x].astype(np.float64), target[image, y, x]


def cross_entropy(prediction, target, weights=None):
    total = weight = 0.0
    for logits, k in pixels(prediction, target):
        w = 1.0 if weights is None else weights[k]
        total += w * (math.log(np.exp(logits).sum()) - logits[k])
        weight += w
    return total / weight


def one_hot(prediction, target, void):
    values = []
    for image, y, x in np.ndindex(target.shape):
        if void == "background" or target[image, y, x] != -1:
            values += [slow.bce(p, k == target[image, y, x]) for k, p in enumerate(prediction[image, :, y, x])]
    return np.mean(values)


def binary(prediction, target, weight=None):
    pairs = [(p, t) for p, t in zip(prediction.ravel(), target.ravel(), strict=True) if t != -1]
    if weight == "batch":
        weight = sum(t == 0 for _, t in pairs) / len(pairs)
    scale = {0: 1.0, 1: 1.0} if weight is None else {0: 1 - weight, 1: weight}
    return np.mean([scale[int(t)] * slow.bce(p, t) for p, t in pairs])


def cosine(prediction, target, released=False):
    values = []
    for image, y, x in np.argwhere(target[:, -1] == 1):
        p, t = prediction[image, :, y, x].astype(np.float64), target[image, :3, y, x]
        p = p / np.linalg.norm(p)
        values.append(((p + 1) / 2) @ ((t + 1) / 2) if released else p @ t)
    return 1 - np.mean(values)


CASES = {
    "cross-entropy": (DenseCrossEntropy(), segmentation, cross_entropy),
    "class weights": (DenseCrossEntropy(WEIGHTS), segmentation, lambda p, t: cross_entropy(p, t, WEIGHTS)),
    "one-hot, ignore": (OneHotBinaryCrossEntropy("ignore"), segmentation, lambda p, t: one_hot(p, t, "ignore")),
    "binary": (BinaryCrossEntropy(), mask, binary),
    "balanced": (BalancedBinaryCrossEntropy(), mask, lambda p, t: binary(p, t, "batch")),
    "balanced, given": (BalancedBinaryCrossEntropy(0.95), mask, lambda p, t: binary(p, t, 0.95)),
    "l1": (MaskedL1(), depth, lambda p, t: np.abs(slow.errors(p, t)[0]).mean()),
    "l2": (MaskedL2(), lambda: depth(2), lambda p, t: (slow.errors(p, t)[0] ** 2).mean()),
    "cosine": (CosineLoss(), normals, cosine),
    "cosine, zero_one": (CosineLoss("zero_one"), normals, lambda p, t: cosine(p, t, released=True)),
}


def gradient(loss, prediction, target):
    leaf = prediction.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.detach(), leaf.grad


def valid_pixels(target):
    """(N, 1, H, W)."""
    return target[:, -1:] == 1 if target.ndim == 4 else (target != -1).unsqueeze(1)


@pytest.mark.parametrize("name", CASES)
def test_a_loss_equals_its_slow_reference(name):
    """The targets of `depth` and `normals` hold NaN at invalid pixels."""
    loss, data, reference = CASES[name]
    prediction, target = data()
    value, found = gradient(loss, prediction.double(), target.double() if target.is_floating_point() else target)
    assert value.shape == ()
    assert value.item() == pytest.approx(reference(prediction.numpy(), target.numpy()), rel=1e-9)
    assert found.isfinite().all()
    assert (found.abs() > 0).any()


@pytest.mark.parametrize("name", CASES)
def test_invalid_pixels_have_no_influence_and_no_gradient(name):
    loss, data, _ = CASES[name]
    prediction, target = data()
    valid = valid_pixels(target)
    value, found = gradient(loss, prediction, target)
    assert (found.where(~valid, 0) == 0).all()
    other = prediction.where(valid, 100 * torch.randn_like(prediction))
    moved, gradients = gradient(loss, other, target)
    assert torch.equal(moved, value)
    torch.testing.assert_close(gradients, found)
    if target.is_floating_point():
        for filler in (0.0, torch.inf, 1e30):
            filled = torch.cat([target[:, :-1].where(valid, filler), target[:, -1:]], dim=1)
            assert torch.equal(gradient(loss, prediction, filled)[1], found)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_without_a_valid_pixel_is_zero_with_graph(name):
    loss, data, _ = CASES[name]
    prediction, target = data()
    if target.is_floating_point():
        target[:, -1] = 0
    else:
        target[:] = -1
    value, found = gradient(loss, prediction, target)
    assert value.item() == 0
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("class weights", "balanced")])
def test_a_mean_over_pixels_is_one_over_parts_weighted_by_them(name):
    """Not for the two left out: their weights depend on the batch or sum to something else than the pixels."""
    loss, data, _ = CASES[name]
    prediction, target = data()
    weights = [valid_pixels(part).sum() for part in target.split([4, 1, 6])]
    parts = [loss(p, t) for p, t in zip(prediction.split([4, 1, 6]), target.split([4, 1, 6]), strict=True)]
    mean = sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)
    torch.testing.assert_close(loss(prediction, target), mean)


def test_void_is_the_background_of_the_one_hot_loss():
    prediction, target = segmentation()
    value, found = gradient(OneHotBinaryCrossEntropy(), prediction.double(), target)
    assert value.item() == pytest.approx(one_hot(prediction.numpy(), target.numpy(), "background"), rel=1e-9)
    void = ~valid_pixels(target).expand_as(found)
    assert (found[void] > 0).all()  # every channel is pushed down there


def test_an_attribute_takes_either_shape_of_logits():
    logits, target = attribute()
    value = BinaryCrossEntropy()(logits, target)
    assert value.item() == pytest.approx(binary(logits.numpy(), target.numpy()), rel=1e-6)
    assert torch.equal(value, BinaryCrossEntropy()(logits.squeeze(1), target))


def test_without_void_the_dense_loss_is_the_plain_one():
    prediction, target = segmentation()
    target = target.clamp_min(0)
    torch.testing.assert_close(DenseCrossEntropy()(prediction, target), CrossEntropy()(prediction, target))
    torch.testing.assert_close(
        DenseCrossEntropy(WEIGHTS)(prediction, target),
        functional.cross_entropy(prediction, target, torch.tensor(WEIGHTS)),
    )


def test_only_classes_of_weight_zero_are_zero_with_graph():
    prediction = torch.randn(1, 2, 2, 2)
    value, found = gradient(DenseCrossEntropy([0.0, 1.0]), prediction, torch.zeros(1, 2, 2, dtype=torch.int64))
    assert value.item() == 0
    assert (found == 0).all()


def test_plain_errors():
    prediction, target = torch.randn(6, 3), torch.randn(6, 3)
    assert L1()(prediction, target).item() == pytest.approx((prediction - target).abs().mean().item())
    assert L2()(prediction, target).item() == pytest.approx((prediction - target).square().mean().item())


def test_edges_without_a_positive_give_nothing_to_learn():
    value, found = gradient(BalancedBinaryCrossEntropy(), torch.randn(2, 1, 3, 3), torch.zeros(2, 3, 3).long())
    assert value.item() == 0
    assert (found == 0).all()


def test_the_cosine_loss_ignores_lengths_and_survives_length_zero():
    prediction, target = normals()
    loss = CosineLoss()
    torch.testing.assert_close(loss(7 * prediction, target), loss(prediction, target))
    perfect = torch.nan_to_num(target[:, :3]) * 2
    assert loss(perfect, target).item() == pytest.approx(0, abs=1e-6)
    value, found = gradient(loss, torch.zeros_like(prediction), target)
    assert value.item() == 1
    assert found.isfinite().all()
    assert found.abs().max() <= 1


def test_the_cosine_loss_divides_by_the_euclidean_length_also_of_some_zero_vectors():
    prediction, target = (tensor.double() for tensor in normals())
    prediction[:, :, 0] = 0
    prediction[:, :, 1] *= 1e-9
    loss = CosineLoss()
    value, found = gradient(loss, prediction, target)
    free = prediction.clone().requires_grad_()
    length = torch.linalg.vector_norm(free, dim=1, keepdim=True)
    cosine = (free / length.where(length > 0, 1) * torch.nan_to_num(target[:, :3])).sum(1, keepdim=True)
    expected = (1 - cosine)[target[:, 3:] > 0.5].mean()
    (slope,) = torch.autograd.grad(expected, free)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(found, slope)
    assert found[:, :, 0].abs().max() > 0


def test_bad_options_and_shapes_are_refused():
    _, seg = segmentation()
    with pytest.raises(ConfigError, match="class_weights"):
        DenseCrossEntropy([1.0, -1.0])
    with pytest.raises(ConfigError, match="class_weights"):
        DenseCrossEntropy([0.0, 0.0])
    with pytest.raises(ConfigError, match="class_weights"):
        DenseCrossEntropy([1.0, 1.0])(torch.zeros(11, 5, 9, 7), seg)
    with pytest.raises(ConfigError, match="void"):
        OneHotBinaryCrossEntropy("drop")
    with pytest.raises(ConfigError, match="positive_weight"):
        BalancedBinaryCrossEntropy(1.5)
    with pytest.raises(ConfigError, match="encoding"):
        CosineLoss("rgb")
    with pytest.raises(ConfigError, match="num_outputs = 1"):
        BinaryCrossEntropy()(torch.zeros(11, 3, 9, 7), seg)
    with pytest.raises(ConfigError, match="validity"):
        L1()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2))
    for loss in (MaskedL1(), MaskedL2(), CosineLoss()):
        with pytest.raises(ConfigError, match="validity"):
            loss(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
