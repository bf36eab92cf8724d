"""How targets mark what does not count: void classes and invalid pixels."""

import torch
from torch import Tensor

from mtl.errors import ConfigError

IGNORE = -1
"""The class of void pixels in segmentation and binary maps."""


def split_validity(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The values of a dense regression target, and where they are valid.

    Args:
        prediction: (B, C, H, W).
        target: (B, C + 1, H, W); the last channel is the validity, 1 valid and 0 invalid.

    Returns:
        Values (B, C, H, W), 0 at invalid pixels whatever was stored there, and validity (B, 1, H, W) as booleans.

    Raises:
        ConfigError: the shapes do not belong together.
    """
    batch, channels, *size = prediction.shape
    if target.shape != (batch, channels + 1, *size):
        raise ConfigError(
            f"A prediction of shape {tuple(prediction.shape)} needs a target of shape "
            f"{(batch, channels + 1, *size)}: the values and, as last channel, their validity. "
            f"Found {tuple(target.shape)}. Check `num_outputs` of the task."
        )
    valid = target[:, -1:] > 0.5
    return torch.where(valid, target[:, :-1], 0), valid


def match_logits(prediction: Tensor, target: Tensor) -> Tensor:
    """Logits of a binary task in the shape of its target: (B,) or (B, 1) for (B,), (B, 1, H, W) for (B, H, W).

    Two outputs (B, 2) or (B, 2, H, W) are those of a two-way softmax (no, yes): their difference is the one logit.

    Raises:
        ConfigError: the shapes do not belong together.
    """
    if prediction.shape == target.shape:
        return prediction
    if prediction.shape == (len(target), 1, *target.shape[1:]):
        return prediction.squeeze(1)
    if prediction.shape == (len(target), 2, *target.shape[1:]):
        return prediction[:, 1] - prediction[:, 0]
    raise ConfigError(
        f"A binary target of shape {tuple(target.shape)} needs one logit, or two, each. Found a prediction of shape "
        f"{tuple(prediction.shape)}. Set `num_outputs = 1` (or 2) for the task."
    )
