"""How tasks see the shared representation: the place where a method may stand between backbone and heads."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

Features = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""What a backbone returns: shared features z (one tensor or several), or task-specific features by task name."""


class FeatureView(nn.Module):
    """The ordinary view: one pass of the backbone, read by every head as it is.

    A strategy may replace a model's view in its `setup` (task rotations, task masks). What has to be evaluated and
    saved with the network belongs into buffers of the view; what only training needs belongs to the strategy.
    """

    def features(self, backbone: nn.Module, inputs: Tensor, tasks: Sequence[str]) -> Features:  # noqa: ARG002
        """The representation of `inputs`, for `tasks` at least."""
        features: Features = backbone(inputs)
        return features

    def read(self, features: Features, task: str) -> Tensor | tuple[Tensor, ...]:
        """What the head of `task` reads."""
        return features[task] if isinstance(features, Mapping) else features
