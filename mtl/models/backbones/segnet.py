"""SegNet: encoder and decoder that share max-pool indices."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from mtl.models.blocks import check_images, check_widths, conv_block, xavier_normal

FILTERS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Maps:
    """What a pass through SegNet computes at each level, level 0 being the finest.

    Attributes:
        encoder: (first, last) map of the encoder's level, before pooling.
        unpooled: The map that enters the decoder's level.
        decoder: The map that leaves it.
    """

    encoder: list[tuple[Tensor, Tensor]]
    unpooled: list[Tensor]
    decoder: list[Tensor]


class SegNet(nn.Module):
    """SegNet (Badrinarayanan et al. 2017, arXiv:1511.00561) in the form of the MTAN lineage.

    Each level has a first convolution and then one more (levels 0 and 1) or two more, all 3x3 with BatchNorm and ReLU;
    the encoder pools 2x2 and keeps the indices, the decoder unpools with them. Features (B, filters[0], H, W). With the
    default filters and 3 channels: 24,943,296 parameters.

    Args:
        input_shape: (C, H, W) with H, W >= 2^levels.
        tasks: Unused; every task reads the same features.
        filters: Width of each level, at least two levels.

    **Deviations.** Released code (lorenmt/mtan, `im2im_pred/model_segnet_split.py`, and the codes that took it over):
    filters 64, 128, 256, 512, 512, convolutions initialised Xavier-normal with zero biases, sides that are multiples of
    32. Ours: the same; other sizes are unpooled to the size that was pooled. The released heads are
    `heads=conv_mtan`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        filters: Sequence[int] = FILTERS,
    ) -> None:
        super().__init__()
        check_widths("filters", filters, fewest=2)
        check_images("SegNet", input_shape, 2 ** len(filters))
        self.out_features = filters[0]
        self.encoder_first = nn.ModuleList(
            conv_block(width, own) for width, own in zip((input_shape[0], *filters), filters, strict=False)
        )
        self.encoder_rest = nn.ModuleList(_rest(own, level) for level, own in enumerate(filters))
        below = (filters[0], *filters[:-1])
        self.decoder_first = nn.ModuleList(conv_block(own, width) for own, width in zip(filters, below, strict=True))
        self.decoder_rest = nn.ModuleList(_rest(width, level) for level, width in enumerate(below))
        xavier_normal(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters[0], H, W)."""
        return self.maps(inputs).decoder[0]

    def maps(self, inputs: Tensor) -> Maps:
        """All maps of one pass, for networks that attend to them."""
        encoder: list[tuple[Tensor, Tensor]] = []
        indices: list[Tensor] = []
        maps = inputs
        for first, rest in zip(self.encoder_first, self.encoder_rest, strict=True):
            maps = first(maps)
            encoder.append((maps, rest(maps)))
            maps, index = functional.max_pool2d_with_indices(encoder[-1][1], (2, 2))
            indices.append(index)
        unpooled: list[Tensor] = []
        decoder: list[Tensor] = []
        for level in reversed(range(len(encoder))):
            unpooled.append(unpool(maps, indices[level], encoder[level][1].shape))
            maps = self.decoder_rest[level](self.decoder_first[level](unpooled[-1]))
            decoder.append(maps)
        return Maps(encoder, unpooled[::-1], decoder[::-1])


def unpool(maps: Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
    """Put each value (B, C, h, w) back to the place its window's maximum had in (B, C, H, W); zeros elsewhere.

    `torch.nn.functional.max_unpool2d` for windows that do not overlap. That one has no deterministic implementation.
    """
    empty = maps.new_zeros(shape[0], shape[1], shape[2] * shape[3])
    return empty.scatter(2, index.flatten(2), maps.flatten(2)).view(*shape)


def _rest(width: int, level: int) -> nn.Sequential:
    return nn.Sequential(*(conv_block(width, width) for _ in range(1 if level < 2 else 2)))
