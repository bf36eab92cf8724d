"""A branch that reads the pooled feature map."""

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.blocks import resize

POOLED_NORMS = ("batch", "layer")


class PooledBranch(nn.Module):
    """(B, C, h, w) -> average-pool to bins x bins -> 1x1 convolution -> norm -> ReLU -> resized to (B, width, h, w).

    Args:
        in_channels: C.
        width: Channels of the branch.
        bins: Side of the pooled map, at least 1.
        norm: `batch` (as published) or `layer`, over the channels and positions of one sample. A map of one bin has one
            value a channel and sample, so BatchNorm cannot train on a batch of 1: that is an error, and `layer` works.
    """

    def __init__(self, in_channels: int, width: int, bins: int, norm: str) -> None:
        super().__init__()
        self.bins = bins
        self.conv = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(1, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        if self.bins == 1 and len(maps) == 1 and self.training and isinstance(self.norm, nn.BatchNorm2d):
            raise ConfigError(
                "BatchNorm of the globally pooled branch has one value a channel with a batch of 1. Use a larger "
                "batch, or `heads.pooled_norm=layer`."
            )
        pooled = self.norm(self.conv(pool(maps, self.bins))).relu()
        return resize(pooled, maps.shape[2:])


def pool(maps: Tensor, bins: int) -> Tensor:
    """(B, C, h, w) -> (B, C, bins, bins), averages over the windows of `adaptive_avg_pool2d`, as two products.

    That one's gradient has no deterministic implementation on CUDA.
    """
    rows, columns = (_averages(size, bins, maps) for size in maps.shape[2:])
    return rows @ maps @ columns.T


def _averages(size: int, bins: int, like: Tensor) -> Tensor:
    """(bins, size): row i averages the entries from floor(i size / bins) to ceil((i + 1) size / bins)."""
    index = torch.arange(bins, device=like.device)[:, None]
    first, last = index * size // bins, ((index + 1) * size + bins - 1) // bins
    place = torch.arange(size, device=like.device)
    inside = ((place >= first) & (place < last)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
