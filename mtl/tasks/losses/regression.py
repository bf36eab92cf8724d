"""Absolute and squared errors."""

from torch import Tensor

from mtl.errors import ConfigError
from mtl.tasks.losses.base import mean_over_valid
from mtl.tasks.targets import split_validity


class L1:
    """Mean absolute error of a prediction against a target of the same shape, every element valid.

    Raises:
        ConfigError: the shapes differ.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        return _difference(prediction, target).abs().mean()


class L2:
    """Mean squared error of a prediction against a target of the same shape, every element valid.

    Raises:
        ConfigError: the shapes differ.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        return _difference(prediction, target).square().mean()


class MaskedL1:
    """Mean absolute error over the valid pixels and all channels; depth, disparity, offsets.

    Prediction (B, C, H, W), target (B, C + 1, H, W) with the validity as last channel.

    Raises:
        ConfigError: the shapes do not belong together.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        difference, valid = _masked_difference(prediction, target)
        return mean_over_valid(difference.abs(), valid)


class MaskedL2:
    """Mean squared error over the valid pixels and all channels; shapes and errors as `MaskedL1`."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        difference, valid = _masked_difference(prediction, target)
        return mean_over_valid(difference.square(), valid)


def _difference(prediction: Tensor, target: Tensor) -> Tensor:
    if prediction.shape != target.shape:
        raise ConfigError(
            f"Prediction and target should have the same shape. Found {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}. A target with a validity channel needs `MaskedL1` or `MaskedL2`."
        )
    return prediction - target


def _masked_difference(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Difference (B, C, H, W), exactly 0 and without gradient at invalid pixels, and validity of the same shape."""
    values, valid = split_validity(prediction, target)
    return (prediction - values).where(valid, 0), valid.expand_as(values)
