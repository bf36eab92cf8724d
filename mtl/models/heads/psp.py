"""Pyramid-pooling head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.models.blocks import check_widths, conv_block, resize
from mtl.models.heads.checks import check_maps, map_size, map_width
from mtl.models.heads.pooled import POOLED_NORMS, PooledBranch
from mtl.validation import check_choice, check_count


class PSPHead(nn.Module):
    """Pyramid pooling (Zhao et al. 2017, arXiv:1612.01105), one per task as in Sener and Koltun 2018 on Cityscapes.

    The map is average-pooled to each number of bins, put through a 1x1 convolution with norm and ReLU, resized back and
    concatenated with the map; then 3x3 convolution, BatchNorm, ReLU, 1x1 convolution.

    Args:
        in_features: C.
        num_outputs: Channels of the prediction.
        output_size: (H, W); the prediction is resized to it (bilinear, corners not aligned).
        bins: Sides of the pooled maps; 1, 2, 3, 6 in paper and released code.
        hidden_features: Width of each branch and of the 3x3 convolution; 512 in the released code of Sener and Koltun.
        pooled_norm: `batch` (as published) or `layer` in the branches; `layer` also trains on batches of 1.

    **Deviations.** Paper (PSPNet): branches of C / (number of bins), dropout 0.1. Released code of Sener and Koltun
    2018 (`models/pspnet.py`): branches of 512, no dropout, prediction at the size of the features and labels shrunk to
    it. Ours: its layers, the prediction enlarged to the labels.
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        num_outputs: int,
        output_size: tuple[int, int] | None = None,
        bins: Sequence[int] = (1, 2, 3, 6),
        hidden_features: int = 512,
        pooled_norm: str = "batch",
    ) -> None:
        super().__init__()
        check_widths("bins", bins, fewest=1)
        check_count("hidden_features", hidden_features)
        check_choice("pooled_norm", pooled_norm, POOLED_NORMS)
        self.output_size = map_size("psp", output_size)
        width = map_width("psp", in_features)
        self.branches = nn.ModuleList(PooledBranch(width, hidden_features, side, pooled_norm) for side in bins)
        self.join = conv_block(width + len(bins) * hidden_features, hidden_features, bias=False)
        self.output = nn.Conv2d(hidden_features, num_outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, num_outputs, H, W)."""
        check_maps("psp", features)
        joined = torch.cat([features, *(branch(features) for branch in self.branches)], dim=1)
        return resize(self.output(self.join(joined)), self.output_size)
