"""Surface normals fitted to a depth map."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.datasets.images import resize_nearest

FX, FY, CX, CY = 518.86, 519.47, 325.58, 253.74
"""Focal lengths and principal point of NYUv2's colour camera in pixels, at `FULL`."""
FULL = (480, 640)
WORKING = (288, 384)
"""Height and width at which planes are fitted."""
SIGMA = 2.0
"""Of the blur before the fit, in pixels at `WORKING`."""
WINDOW = 9
"""Side of the fitted window, in pixels at `WORKING`."""
MIN_PIXELS = 9
"""Valid pixels that a window needs."""


def pseudo_normals(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Normals of planes fitted to a depth map.

    The depth is taken to 288x384 (nearest), blurred with sigma 2 over its valid pixels, and around every pixel a
    plane is fitted by least squares to the valid ones of a 9x9 window. For a plane the inverse depth is affine in the
    pixel, 1/z = a + b u + c v, so the fit is one linear 3x3 system a pixel and the normal is proportional to
    (b fx, c fy, a) with u, v counted from the principal point.

    Args:
        depth: (H, W) metres, a whole frame of the camera; 0 where invalid.

    Returns:
        (288, 384, 3) float32 unit vectors that point to the camera, in its axes: x right, y down, z forward. NaN
        where too few pixels are valid.
    """
    small = torch.from_numpy(resize_nearest(depth, WORKING)).double()
    valid = (small > 0).double()
    inverse = torch.where(valid > 0, 1 / _blur(small, valid).clamp_min(1e-6), 0.0)
    offset, slope_u, slope_v, good = _fit(inverse, valid)
    height, width = WORKING
    scale_y, scale_x = height / FULL[0], width / FULL[1]
    u = torch.arange(width, dtype=torch.float64) + 0.5 - (CX + 0.5) * scale_x
    v = (torch.arange(height, dtype=torch.float64) + 0.5 - (CY + 0.5) * scale_y)[:, None]
    inward = torch.stack(
        [slope_u * FX * scale_x, slope_v * FY * scale_y, offset - slope_u * u - slope_v * v], dim=-1
    )  # n X = 1 > 0 on the plane: away from the camera
    normals = -inward / inward.norm(dim=-1, keepdim=True)
    normals[~good] = torch.nan
    fitted: npt.NDArray[np.float32] = normals.float().numpy()
    return fitted


def _blur(values: Tensor, valid: Tensor) -> Tensor:
    """Gaussian mean over valid pixels, (H, W)."""
    radius = math.ceil(3 * SIGMA)
    maps = torch.stack([values * valid, valid])
    for dim in (1, 2):
        size = maps.shape[dim]
        padded = _pad(maps, dim, radius)
        maps = torch.zeros_like(maps)
        for tick in range(2 * radius + 1):
            weight = math.exp(-((tick - radius) ** 2) / (2 * SIGMA**2))
            maps.add_(padded.narrow(dim, tick, size), alpha=weight)
    return maps[0] / maps[1].clamp_min(1e-12)


def _fit(inverse: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least-squares value and slopes of `inverse` (H, W) at every pixel, and where the window determines them."""
    height, width = inverse.shape
    u = torch.arange(width, dtype=torch.float64) - width / 2
    v = (torch.arange(height, dtype=torch.float64) - height / 2)[:, None]
    q = inverse * valid
    count, *sums = _box(
        torch.stack([valid, valid * u, valid * v, q, valid * u * u, valid * u * v, valid * v * v, q * u, q * v])
    )
    mean_u, mean_v, mean_q, uu, uv, vv, uq, vq = (total / count.clamp_min(1) for total in sums)
    uu, uv, vv = uu - mean_u**2, uv - mean_u * mean_v, vv - mean_v**2
    uq, vq = uq - mean_u * mean_q, vq - mean_v * mean_q
    determinant = uu * vv - uv**2
    good = (count >= MIN_PIXELS) & (valid > 0) & (determinant > 1e-3)
    determinant = torch.where(good, determinant, 1.0)
    slope_u, slope_v = (uq * vv - vq * uv) / determinant, (vq * uu - uq * uv) / determinant
    offset = mean_q + slope_u * (u - mean_u) + slope_v * (v - mean_v)
    return offset, slope_u, slope_v, good


def _box(maps: Tensor) -> Tensor:
    """Sums over windows of `WINDOW` pixels a side, clipped at the border, (K, H, W)."""
    radius = WINDOW // 2
    for dim in (1, 2):
        size = maps.shape[dim]
        totals = _pad(maps, dim, radius + 1).cumsum(dim)
        maps = totals.narrow(dim, WINDOW, size) - totals.narrow(dim, 0, size)
    return maps


def _pad(maps: Tensor, dim: int, width: int) -> Tensor:
    """Zeros on both ends of an axis."""
    border = maps.new_zeros([width if axis == dim else size for axis, size in enumerate(maps.shape)])
    return torch.cat([border, maps, border], dim)
