"""A rotation of the shared features per task."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.models.view import Features, FeatureView


class RotationView(FeatureView):
    """Head k reads R_k z instead of z; the rotations carry no graph.

    Args:
        tasks: Task names; one rotation each, the identity at first.
        size: d, how many of the leading features (channels) are rotated; the others pass as they are.
        dtype: Of the features.

    Attributes:
        rotations: R (m, d, d), orthogonal. A buffer: saved, loaded and evaluated with the network.
    """

    rotations: Tensor

    def __init__(self, tasks: Sequence[str], size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._index = {task: k for k, task in enumerate(tasks)}
        self.register_buffer("rotations", torch.eye(size, dtype=dtype).repeat(len(tasks), 1, 1))

    def read(self, features: Features, task: str) -> Tensor:
        """R_k z for features z (B, D) or maps (B, D, h, w)."""
        assert isinstance(features, Tensor), "checked in the strategy's setup"
        return rotate(features, self.rotations[self._index[task]])


def rotate(features: Tensor, rotation: Tensor) -> Tensor:
    """Multiply the first d entries of axis 1 of `features` (B, D, ...) by `rotation` (d, d)."""
    size = len(rotation)
    if size == features.shape[1]:
        return torch.einsum("ij,bj...->bi...", rotation, features)
    turned = torch.einsum("ij,bj...->bi...", rotation, features[:, :size])
    return torch.cat([turned, features[:, size:]], dim=1)
