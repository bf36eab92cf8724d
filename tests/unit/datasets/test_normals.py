"""Pseudo normals: exact on planes, and as good as stated on a real frame."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.images import resize_nearest
from mtl.datasets.normals import CX, CY, FX, FY, pseudo_normals

REAL = Path(os.environ.get("MTL_DATA", "data")) / "nyuv2"


def plane(normal, distance, size=(480, 640)):
    """Depth of the plane n X = -distance, seen by NYUv2's camera."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
    rays = np.stack([(columns - CX) / FX, (rows - CY) / FY, np.ones(size)], -1)
    return (-distance / (rays @ normal)).astype(np.float32)


@pytest.mark.parametrize("direction", [(0, 0, -1), (0.3, 0.1, -1), (-0.2, -0.6, -1), (0.1, -1, -1.2)])
def test_planes_have_their_normal(direction):
    normal = np.array(direction) / np.linalg.norm(direction)
    depth = plane(normal, 2.0)
    assert depth.min() > 0
    fitted = pseudo_normals(depth)
    inner = fitted[10:-10, 10:-10].astype(np.float64)  # the blur is not symmetric at the border
    angles = np.degrees(np.arccos(np.clip(inner @ normal, -1, 1)))
    assert angles.max() < 1.0
    assert np.median(angles) < 0.2


def test_unit_length_to_the_camera_and_invalid_where_there_is_no_depth():
    depth = plane(np.array([0.2, 0.1, -0.9]), 2.0)
    depth[100:300, 200:400] = 0
    fitted = pseudo_normals(depth)
    hole = resize_nearest(depth, fitted.shape[:2]) == 0
    assert np.array_equal(np.isnan(fitted[..., 0]), hole)
    assert np.allclose(np.linalg.norm(fitted[~hole], axis=-1), 1, atol=1e-5)
    rows, columns = np.mgrid[:288, :384]
    rays = np.stack([(columns / 0.6 - CX) / FX, (rows / 0.6 - CY) / FY, np.ones((288, 384))], -1)
    assert ((fitted * rays).sum(-1)[~hole] < 0).all()


@pytest.mark.skipif(not (REAL / "official-frames").is_dir(), reason="needs MTL_DATA with nyuv2/")
def test_error_on_the_official_frame():
    """Against frame 433's normals: 12.8 degrees in the mean and 4.2 in the median were stated for this recipe."""
    picture = np.asarray(Image.open(REAL / "official-frames" / "norm_gt_000433.png")).astype(np.float64)
    invalid = np.abs(picture - 127.5).max(-1) < 1
    x, forward, up = np.moveaxis((picture - 127.5) / 127.5, -1, 0)
    truth = np.stack([x, -up, forward], -1)
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    depth = (np.asarray(Image.open(REAL / "depth8" / "0433.png")).astype(np.float32) + 0.5) / 25.5
    fitted = pseudo_normals(depth)
    keep = ~resize_nearest(invalid, (288, 384)) & np.isfinite(fitted[..., 0])
    cosine = (fitted * resize_nearest(truth, (288, 384))).sum(-1)
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))[keep]
    assert keep.mean() > 0.75
    assert angles.mean() == pytest.approx(12.8, abs=0.5)
    assert np.median(angles) == pytest.approx(4.2, abs=0.5)
