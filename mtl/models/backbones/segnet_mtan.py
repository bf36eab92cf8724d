"""MTAN: SegNet with an attention path per task. It has no shared features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.models.backbones.segnet import FILTERS, Maps, SegNet
from mtl.models.blocks import conv_block, xavier_normal


class SegNetMTAN(nn.Module):
    """Multi-task attention network on SegNet (Liu et al. 2019, arXiv:1803.10704, section 3).

    Task t masks each level's last map u by a_t = sigmoid(BN(conv1x1(ReLU(BN(conv1x1(.)))))) of the level's first map
    and its own path so far: its features are a_t * u, handed on through a 3x3 convolution that all tasks share, and
    max-pooled (encoder) or bilinearly enlarged (decoder). Each task ends with own features (B, filters[0], H, W).

    The trunk (`segnet`) and the convolutions between levels (`encoder_between`, `decoder_between`) are shared; the
    attention modules (`encoder_attention`, `decoder_attention`) belong to one task each. With the default filters,
    3 channels and 3 tasks: 44,117,184 parameters, 8,953,728 of them in attention modules. Published codes that call
    shared whatever is not a prediction layer count those as shared.

    A forward runs every task's path, also where fewer tasks are asked for. The BatchNorms between levels see each task
    in turn: their running statistics move once per task and forward.

    Args:
        input_shape: (C, H, W) with H, W >= 2^levels.
        tasks: Task names; one attention path each.
        filters: Width of each level, at least two levels.

    **Deviations.** Released code (lorenmt/mtan, `im2im_pred/model_segnet_mtan.py`): 3 tasks, filters 64, 128, 256, 512,
    512, sides that are multiples of 32. Ours: any number of tasks; the path is enlarged to the size of the map it
    meets, which is twice its own for such sides. The released heads are `heads=conv_mtan`.
    """

    def __init__(self, input_shape: tuple[int, ...], tasks: Sequence[str], filters: Sequence[int] = FILTERS) -> None:
        super().__init__()
        self.segnet = SegNet(input_shape, filters=filters)
        self.out_features = filters[0]
        self.tasks = tuple(tasks)
        below, above = (filters[0], *filters[:-1]), (*filters[1:], filters[-1])
        self.encoder_attention = nn.ModuleList(
            nn.ModuleList(_attention(own if level == 0 else 2 * own, own) for level, own in enumerate(filters))
            for _ in self.tasks
        )
        self.decoder_attention = nn.ModuleList(
            nn.ModuleList(_attention(own + width, width) for own, width in zip(filters, below, strict=True))
            for _ in self.tasks
        )
        self.encoder_between = nn.ModuleList(conv_block(own, width) for own, width in zip(filters, above, strict=True))
        self.decoder_between = nn.ModuleList(conv_block(own, width) for own, width in zip(filters, below, strict=True))
        xavier_normal(self)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> task name -> (B, filters[0], H, W)."""
        maps = self.segnet.maps(inputs)
        return {task: self._path(number, maps) for number, task in enumerate(self.tasks)}

    def _path(self, number: int, maps: Maps) -> Tensor:
        path: Tensor | None = None
        attention: nn.Module = self.encoder_attention[number]
        assert isinstance(attention, nn.ModuleList)
        for (first, last), attend, between in zip(maps.encoder, attention, self.encoder_between, strict=True):
            masked = attend(first if path is None else torch.cat([first, path], dim=1)) * last
            path = functional.max_pool2d(between(masked), 2)
        attention = self.decoder_attention[number]
        assert isinstance(attention, nn.ModuleList)
        for level in reversed(range(len(maps.decoder))):
            entering = maps.unpooled[level]
            assert path is not None
            path = functional.interpolate(path, size=entering.shape[2:], mode="bilinear", align_corners=True)
            path = torch.cat([entering, self.decoder_between[level](path)], dim=1)
            path = attention[level](path) * maps.decoder[level]
        assert path is not None
        return path


def _attention(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.BatchNorm2d(width),
        nn.Sigmoid(),
    )
