"""Convolutional head for dense tasks."""

from torch import Tensor, nn

from mtl.models.blocks import resize, xavier_normal
from mtl.models.heads.checks import check_maps, map_size, map_width
from mtl.validation import check_bool, check_choice, check_count

INITIALIZATIONS = ("default", "xavier_normal")


class ConvHead(nn.Module):
    """Feature map (B, C, h, w) -> [3x3 convolution -> ReLU ->] 1x1 convolution -> (B, num_outputs, H, W).

    Args:
        in_features: C.
        num_outputs: Channels of the prediction.
        output_size: (H, W); the prediction is resized to it (bilinear, corners not aligned).
        hidden_features: Width of the 3x3 convolution, at least 1; null for the 1x1 convolution alone.
        relu: Whether a ReLU stands between the two convolutions.
        initialization: `default` (PyTorch's) or `xavier_normal` (with zero biases).

    **Deviations.** Released code of Pascal et al. 2021: the 1x1 convolution alone (`heads=conv`). Released code of the
    MTAN lineage: 3x3 convolution of 64 and 1x1 convolution with nothing between, Xavier-normal (`heads=conv_mtan`); its
    log-softmax and unit-length normals belong to the losses here.
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        num_outputs: int,
        output_size: tuple[int, int] | None = None,
        hidden_features: int | None = None,
        relu: bool = True,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        if hidden_features is not None:
            check_count("hidden_features", hidden_features)
        check_bool("relu", relu)
        check_choice("initialization", initialization, INITIALIZATIONS)
        self.output_size = map_size("conv", output_size)
        width = map_width("conv", in_features)
        layers: list[nn.Module] = []
        if hidden_features is not None:
            layers.append(nn.Conv2d(width, hidden_features, 3, padding=1))
            if relu:
                layers.append(nn.ReLU(inplace=True))
            width = hidden_features
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))
        if initialization == "xavier_normal":
            xavier_normal(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, num_outputs, H, W)."""
        check_maps("conv", features)
        return resize(self.layers(features), self.output_size)
