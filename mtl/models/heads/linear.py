"""Linear head."""

from torch import nn


class LinearHead(nn.Linear):
    """Features (B, in_features) -> (B, num_outputs). The head of Sener and Koltun 2018, Figure 5 (50 -> 10).

    Args:
        in_features: Width of the features.
        num_outputs: Outputs of the task.
    """

    def __init__(self, in_features: int, num_outputs: int) -> None:
        super().__init__(in_features, num_outputs)
