"""LeNet as used for MultiMNIST."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.errors import ConfigError
from mtl.models.dropout import make_dropout
from mtl.validation import check_count


class LeNet(nn.Module):
    """The encoder of Sener and Koltun 2018 (Figure 5; released `models/multi_lenet.py`).

    conv 5x5 (C -> 10), max-pool 2, ReLU, conv 5x5 (10 -> 20), dropout, max-pool 2, ReLU, linear (-> 50), ReLU.
    With 28x28 inputs: 320 values before the linear layer, 21,330 parameters, features (B, 50).

    Args:
        input_shape: (C, H, W) with H, W >= 16.
        tasks: Unused; every task reads the same features.
        out_features: Width of the representation; 50 in paper and released code.
        dropout: `none` (paper), `standard`, or `released_code` (one unscaled channel mask per batch).
        dropout_rate: Probability of dropping a channel; 0.5 in the released code.

    **Deviations.** Paper: no dropout is mentioned, Figure 5 prints 32x32 inputs but its 320 features need 28x28.
    Released code: unscaled dropout with one mask per batch; `backbone=lenet_released`. Ours: `backbone=lenet` is the
    figure, at 28x28.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tasks: Sequence[str] = (),  # noqa: ARG002 - part of the backbone interface
        out_features: int = 50,
        dropout: str = "none",
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        check_count("out_features", out_features)
        self.out_features = out_features
        flat = _flat_size(input_shape)
        self.conv1 = nn.Conv2d(input_shape[0], 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.dropout = make_dropout(dropout, dropout_rate, channels=True)
        self.linear = nn.Linear(flat, out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_features)."""
        hidden = functional.max_pool2d(self.conv1(inputs), 2).relu_()
        hidden = functional.max_pool2d(self.dropout(self.conv2(hidden)), 2).relu_()
        return torch.relu(self.linear(hidden.flatten(1)))


def _flat_size(input_shape: tuple[int, ...]) -> int:
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise ConfigError(f"LeNet reads images (C, H, W) of at least 16x16. Found `input_shape = {input_shape}`.")
    height, width = (((size - 4) // 2 - 4) // 2 for size in input_shape[1:])
    return 20 * height * width
