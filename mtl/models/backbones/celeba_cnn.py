"""The plain convolutional network of Pascal et al. 2021 for CelebA."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl.models.blocks import NORM_EVALS, check_images, conv_block, global_pool
from mtl.validation import check_choice, check_count


class CelebACNN(nn.Module):
    """Nine layers: seven 3x3 convolutions and two fully connected ones, each with BatchNorm and ReLU.

    conv w, pool, conv 2w, conv 2w, pool, conv 4w, conv 4w, pool, conv 8w, conv 8w, mean over the map, linear 8w,
    linear 8w; `pool` is max-pool 2, convolutions have no bias. Features (B, 8 w). With w = 64 and 3 channels: 5,177,664
    parameters.

    Args:
        input_shape: (C, H, W) with H, W >= 16; 64x64 in the released code.
        tasks: Unused; every task reads the same features.
        width: Channels w of the first convolution; 64 in the released code.
        norm_eval: `running` (statistics of training) or `batch` (of the evaluated batch) at evaluation. With `batch`
            metrics depend on the batches of the evaluation, and a batch of 1 is refused by BatchNorm.

    **Deviations.** Paper: not available. Released code (lucaspascal/AITSO_MTL, `celeba/models/cnn.py`): w = 64,
    `norm_eval: batch`, one linear layer per group of attributes and a sigmoid; `backbone=celeba_cnn_released`. Ours:
    the same layers, running statistics; the sigmoid is the loss's.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        width: int = 64,
        norm_eval: str = "running",
    ) -> None:
        super().__init__()
        check_count("width", width)
        check_choice("norm_eval", norm_eval, NORM_EVALS)
        check_images("CelebACNN", input_shape, 16)
        self.out_features = 8 * width
        layers: list[nn.Module] = []
        channels = input_shape[0]
        for number, factor in enumerate((1, 2, 2, 4, 4, 8, 8)):
            if number in (1, 3, 5):
                layers.append(nn.MaxPool2d(2))
            layers.append(conv_block(channels, factor * width, norm_eval=norm_eval, bias=False))
            channels = factor * width
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Sequential(*(_linear_block(channels, norm_eval) for _ in range(2)))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 8 w)."""
        features: Tensor = self.linear(global_pool(self.convolutions(inputs)))
        return features


def _linear_block(width: int, norm_eval: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width),
        nn.BatchNorm1d(width, track_running_stats=norm_eval == "running"),
        nn.ReLU(inplace=True),
    )
