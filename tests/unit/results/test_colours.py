"""Colours of dense maps."""

import itertools

import numpy as np
import pytest
import torch

from mtl.results.colours import PALETTE, VOID, DenseTask, Map, paint, palette, predicted_map, rgb, true_map, value_range
from mtl.tasks import IGNORE

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
NORMALS = DenseTask("normals", "normals")
DEPTH = DenseTask("depth", "scalar")


def lab(colour, eye):
    """CIE 1976 Lab at D65, independent of any plotting library."""
    share = rgb(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    x, y, z = to_xyz @ np.clip(np.array(eye) @ linear, 0, 1) / to_xyz.sum(1)
    f = [np.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", EYES)
def test_the_palette_can_be_told_apart(eye):
    assert len(PALETTE) == 13
    for first, second in itertools.combinations((*PALETTE, VOID), 2):
        assert np.linalg.norm(lab(first, EYES[eye]) - lab(second, EYES[eye])) > 22, (first, second)


@pytest.mark.parametrize("count", [1, 7, 13, 19, 40])
def test_every_class_has_a_colour_of_its_own(count):
    colours = palette(count)
    assert len(set(colours)) == count
    assert VOID not in colours
    assert colours[:13] == PALETTE[:count]


def test_truth_and_a_certain_prediction_of_it_look_the_same():
    stream = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (6, 8), generator=stream)
    vectors = torch.nn.functional.normalize(torch.randn(3, 6, 8, generator=stream), dim=0)
    values = torch.rand(1, 6, 8, generator=stream) * 9
    ones = torch.ones(1, 6, 8)
    names = tuple("abcde")
    for task, target, prediction in (
        (DenseTask("segmentation", "classes", names), labels, torch.eye(5)[labels].permute(2, 0, 1)),
        (DenseTask("edges", "binary"), (labels > 2).long(), (labels - 2.5)[None]),
        (NORMALS, torch.cat([vectors, ones]), 7 * vectors),
        (DEPTH, torch.cat([values, ones]), values),
        (DenseTask("instance", "offsets"), torch.cat([vectors[:2], ones]), vectors[:2]),
    ):
        truth = true_map(task, target)
        span = value_range(task, truth)
        shown = paint(task, predicted_map(task, prediction), span)
        assert shown.shape == (6, 8, 3)
        assert np.abs(paint(task, truth, span).astype(int) - shown).max() <= 1
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 1


def test_void_is_grey_whatever_is_stored_there():
    grey = tuple(rgb(VOID))
    labels = torch.tensor([[0, IGNORE]])
    assert (
        tuple(paint(DenseTask("s", "classes", ("a", "b")), true_map(DenseTask("s", "classes"), labels), (0, 1))[0, 1])
        == grey
    )
    assert tuple(paint(DenseTask("e", "binary"), true_map(DenseTask("e", "binary"), labels), (0, 1))[0, 1]) == grey
    depth = torch.tensor([[[2.0, float("nan")]], [[1.0, 0.0]]])
    assert tuple(paint(DEPTH, true_map(DEPTH, depth), (1.0, 3.0))[0, 1]) == grey
    normals = torch.tensor([[[0.0, 9.0]], [[0.0, 9.0]], [[-1.0, 9.0]], [[1.0, 0.0]]])
    painted = paint(NORMALS, true_map(NORMALS, normals), (0, 1))
    assert tuple(painted[0, 1]) == grey
    assert tuple(painted[0, 0]) == (128, 128, 255)  # faces the camera
    broken = predicted_map(DEPTH, torch.tensor([[[1.0, float("nan")]]]))
    assert tuple(paint(DEPTH, broken, (0.0, 1.0))[0, 1]) == grey


def test_a_scale_spans_the_valid_truth():
    depth = torch.tensor([[[2.0, 4.0, 100.0]], [[1.0, 1.0, 0.0]]])
    assert value_range(DEPTH, true_map(DEPTH, depth)) == (2.0, 4.0)
    assert value_range(DEPTH, true_map(DEPTH, depth * torch.tensor([[[1.0]], [[0.0]]]))) == (0.0, 1.0)
    beyond = Map(np.array([[-5.0, 2.0, 4.0, 50.0]]), np.ones((1, 4), bool))
    painted = paint(DEPTH, beyond, (2.0, 4.0))[0]
    assert (painted[0] == painted[1]).all()
    assert (painted[2] == painted[3]).all()
    assert not (painted[1] == painted[2]).all()
