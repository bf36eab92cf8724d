"""Atrous spatial pyramid pooling head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.models.blocks import check_widths, conv_block, resize
from mtl.models.heads.checks import check_maps, map_size, map_width
from mtl.models.heads.pooled import POOLED_NORMS, PooledBranch
from mtl.validation import check_choice, check_count, check_fraction


class ASPPHead(nn.Module):
    """The head of DeepLab v3 (Chen et al. 2017, arXiv:1706.05587, section 3.3).

    In parallel a 1x1 convolution, one dilated 3x3 convolution per rate and global average pooling with a 1x1
    convolution; concatenated, projected by a 1x1 convolution, dropout, 3x3 convolution, 1x1 convolution. All but the
    last with BatchNorm and ReLU.

    Args:
        in_features: C.
        num_outputs: Channels of the prediction.
        output_size: (H, W); the prediction is resized to it (bilinear, corners not aligned).
        rates: Dilations; 6, 12, 18 at output stride 16 and 12, 24, 36 at output stride 8 in the paper.
        hidden_features: Width of every layer; 256 in the paper.
        dropout_rate: After the projection, in [0, 1]; 0.5 in the released codes (torchvision, lorenmt/mtan).
        pooled_norm: `batch` (as published) or `layer` in the pooled branch; `layer` also trains on batches of 1.

    **Deviations.** Paper: the projection is followed by the 1x1 output; no dropout is mentioned. Released codes: a
    3x3 convolution between them, dropout 0.5. Ours: as the released codes.
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        num_outputs: int,
        output_size: tuple[int, int] | None = None,
        rates: Sequence[int] = (12, 24, 36),
        hidden_features: int = 256,
        dropout_rate: float = 0.5,
        pooled_norm: str = "batch",
    ) -> None:
        super().__init__()
        check_widths("rates", rates, fewest=1)
        check_count("hidden_features", hidden_features)
        check_fraction("dropout_rate", dropout_rate)
        check_choice("pooled_norm", pooled_norm, POOLED_NORMS)
        self.output_size = map_size("aspp", output_size)
        width = map_width("aspp", in_features)
        self.branches = nn.ModuleList([conv_block(width, hidden_features, 1, bias=False)])
        self.branches.extend(conv_block(width, hidden_features, bias=False, dilation=rate) for rate in rates)
        self.branches.append(PooledBranch(width, hidden_features, 1, pooled_norm))
        self.project = conv_block(len(self.branches) * hidden_features, hidden_features, 1, bias=False)
        self.dropout = nn.Dropout(dropout_rate)
        self.last = conv_block(hidden_features, hidden_features, bias=False)
        self.output = nn.Conv2d(hidden_features, num_outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, num_outputs, H, W)."""
        check_maps("aspp", features)
        joined = self.project(torch.cat([branch(features) for branch in self.branches], dim=1))
        return resize(self.output(self.last(self.dropout(joined))), self.output_size)
