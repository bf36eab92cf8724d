"""Layers that several backbones and heads are made of."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.validation import check_count

NORM_EVALS = ("running", "batch")
"""What BatchNorm uses at evaluation: running statistics, or those of the batch (then a prediction depends on the other
samples of its batch, and there are no buffers)."""


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    norm_eval: str = "running",
    bias: bool = True,
    dilation: int = 1,
) -> nn.Sequential:
    """Convolution (same size), BatchNorm, ReLU. `norm_eval` is one of NORM_EVALS."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias),
        nn.BatchNorm2d(out_channels, track_running_stats=norm_eval == "running"),
        nn.ReLU(inplace=True),
    )


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear, corners not aligned; the same tensor if it has that size."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def xavier_normal(module: nn.Module) -> None:
    """Xavier-normal convolution weights and zero biases, everywhere in `module`: as in the MTAN lineage."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_images(backbone: str, input_shape: tuple[int, ...], smallest: int) -> None:
    """Raise ConfigError unless `input_shape` is (C, H, W) with H, W >= `smallest`."""
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ConfigError(
            f"{backbone} reads images (C, H, W) of at least {smallest}x{smallest}. Found `input_shape = {input_shape}`."
        )


def check_widths(name: str, widths: Sequence[int], fewest: int) -> None:
    """Raise ConfigError unless `widths` is a list of at least `fewest` integers >= 1."""
    if isinstance(widths, str | int) or len(widths) < fewest:
        raise ConfigError(f"Parameter `{name}` should be a list of at least {fewest} integers. Found `{widths}`.")
    for width in widths:
        check_count(name, width)


def global_pool(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C): mean over the map."""
    return torch.mean(maps, dim=(2, 3))
