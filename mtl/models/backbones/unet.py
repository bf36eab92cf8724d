"""U-Net."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.models.blocks import NORM_EVALS, check_images, check_widths, conv_block
from mtl.validation import check_choice


class UNet(nn.Module):
    """U-Net with bilinear upsampling (Ronneberger et al. 2015, arXiv:1505.04597, as in Pascal et al. 2021's code).

    Two convolutions a level, each with BatchNorm and ReLU; max-pool 2 on the way down; on the way up bilinear
    upsampling, concatenation with the level's own map, and two convolutions. Features (B, filters[0], H, W).
    With the default filters and 3 channels: 17,267,328 parameters.

    Args:
        input_shape: (C, H, W) with H, W >= 2^(levels - 1). Where a side is odd, the upsampled map is padded.
        tasks: Unused; every task reads the same features.
        filters: Width of each level, at least two levels.
        norm_eval: `running` (statistics of training) or `batch` (of the evaluated batch) at evaluation. With `batch`
            metrics depend on the batches of the evaluation.

    **Deviations.** Paper: not available. Released code (lucaspascal/AITSO_MTL, `nyuv2/models/unet.py`): filters 64,
    128, 256, 512, 512, upsampling with aligned corners, `norm_eval: batch`; `backbone=unet_released`. Ours: the same
    layers; `backbone=unet` evaluates with running statistics.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        filters: Sequence[int] = (64, 128, 256, 512, 512),
        norm_eval: str = "running",
    ) -> None:
        super().__init__()
        check_widths("filters", filters, fewest=2)
        check_choice("norm_eval", norm_eval, NORM_EVALS)
        # BatchNorm needs more than one value a channel, also with one sample of the smallest size.
        check_images("UNet", input_shape, 2 ** (len(filters) - 1) * (2 if norm_eval == "batch" else 1))
        self.out_features = filters[0]
        self.down = nn.ModuleList()
        width = input_shape[0]
        for own in filters:
            self.down.append(_double(width, own, own, norm_eval))
            width = own
        self.up = nn.ModuleList()
        for level in range(len(filters) - 2, -1, -1):
            joined = width + filters[level]
            width = filters[max(level - 1, 0)]
            self.up.append(_double(joined, joined // 2, width, norm_eval))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters[0], H, W)."""
        maps = self.down[0](inputs)
        skipped = [maps]
        for level in self.down[1:]:
            maps = level(functional.max_pool2d(maps, 2))
            skipped.append(maps)
        for level, skip in zip(self.up, reversed(skipped[:-1]), strict=True):
            maps = functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
            missing = (skip.shape[3] - maps.shape[3], skip.shape[2] - maps.shape[2])
            if any(missing):
                maps = functional.pad(maps, [side for gap in missing for side in (gap // 2, gap - gap // 2)])
            maps = level(torch.cat([skip, maps], dim=1))
        assert isinstance(maps, Tensor)
        return maps


def _double(in_channels: int, middle: int, out_channels: int, norm_eval: str) -> nn.Sequential:
    return nn.Sequential(
        conv_block(in_channels, middle, norm_eval=norm_eval), conv_block(middle, out_channels, norm_eval=norm_eval)
    )
