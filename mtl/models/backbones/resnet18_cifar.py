"""ResNet-18 for small images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.models.blocks import check_images
from mtl.validation import check_count


class ResNet18Cifar(nn.Module):
    """The CelebA encoder of Sener and Koltun 2018 (released `models/multi_faces_resnet.py`).

    ResNet-18 (He et al. 2016, arXiv:1512.03385) with a 3x3 stem of stride 1 and no max-pool: four stages of two basic
    blocks, strides 1, 2, 2, 2. The last map is averaged in windows of `pool_size` and flattened, so its positions are
    kept apart: at 64x64 it is 512x8x8, and the features are 512 * 2 * 2 = 2,048 wide. 11,168,832 parameters with
    width 64 and 3 channels, whatever the input size.

    Args:
        input_shape: (C, H, W) with H, W >= 8 pool_size - 7; 64x64 in the released code.
        tasks: Unused; every task reads the same features.
        width: Channels of the stem; stages have 1, 2, 4 and 8 times as many. 64 in the released code.
        pool_size: Side of the averaging window on the last map; 4 in the released code.

    **Deviations.** Paper: "ResNet-18 without the final layer". Released code: as above. Ours: the same layers.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        width: int = 64,
        pool_size: int = 4,
    ) -> None:
        super().__init__()
        check_count("width", width)
        check_count("pool_size", pool_size)
        check_images("ResNet18Cifar", input_shape, 1)
        windows = [-(-size // 8) // pool_size for size in input_shape[1:]]
        if min(windows) < 1:
            raise ConfigError(
                f"`backbone.pool_size = {pool_size}` is larger than the last map of an input of {input_shape}. Use "
                "larger images or a smaller pool_size."
            )
        self.pool_size = pool_size
        self.out_features = 8 * width * windows[0] * windows[1]
        self.stem = nn.Sequential(
            nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        blocks = [_BasicBlock(width, width, 1), _BasicBlock(width, width, 1)]
        for factor in (2, 4, 8):
            blocks.append(_BasicBlock(factor * width // 2, factor * width, 2))
            blocks.append(_BasicBlock(factor * width, factor * width, 1))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_features)."""
        return functional.avg_pool2d(self.blocks(self.stem(inputs)), self.pool_size).flatten(1)


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.residual(maps) + self.shortcut(maps))
