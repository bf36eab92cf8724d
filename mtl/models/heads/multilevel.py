"""Dense head over several feature maps."""

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.blocks import conv_block, resize
from mtl.models.heads.checks import check_maps, map_size
from mtl.validation import check_choice, check_count

MERGES = ("sum", "concat")


class MultiLevelHead(nn.Module):
    """Each map -> 1x1 convolution -> resized to the largest; merged -> 3x3 convolution, BatchNorm, ReLU -> 1x1.

    The lateral connections of a feature pyramid (Lin et al. 2017, arXiv:1612.03144) without its top-down cascade; no
    published head is meant.

    Args:
        in_features: Channels of each map, as a tuple.
        num_outputs: Channels of the prediction.
        output_size: (H, W); the prediction is resized to it (bilinear, corners not aligned).
        hidden_features: Width of every layer, at least 1.
        merge: `sum` or `concat` of the resized maps.
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        num_outputs: int,
        output_size: tuple[int, int] | None = None,
        hidden_features: int = 128,
        merge: str = "sum",
    ) -> None:
        super().__init__()
        check_count("hidden_features", hidden_features)
        check_choice("merge", merge, MERGES)
        self.output_size = map_size("multilevel", output_size)
        if isinstance(in_features, int):
            raise ConfigError(
                "heads=multilevel reads several feature maps; this backbone returns one tensor. Use heads=conv, psp or "
                "aspp, or a backbone with several maps (backbone=timm with `backbone.features=levels`)."
            )
        self.merge = merge
        self.laterals = nn.ModuleList(nn.Conv2d(width, hidden_features, 1) for width in in_features)
        joined = hidden_features * (len(in_features) if merge == "concat" else 1)
        self.join = conv_block(joined, hidden_features, bias=False)
        self.output = nn.Conv2d(hidden_features, num_outputs, 1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps (B, C_i, h_i, w_i) -> (B, num_outputs, H, W)."""
        for level in features:
            check_maps("multilevel", level)
        size = max((level.shape[2:] for level in features), key=lambda shape: shape.numel())
        maps = [resize(lateral(level), size) for lateral, level in zip(self.laterals, features, strict=True)]
        joined = torch.cat(maps, dim=1) if self.merge == "concat" else torch.stack(maps).sum(dim=0)
        return resize(self.output(self.join(joined)), self.output_size)
