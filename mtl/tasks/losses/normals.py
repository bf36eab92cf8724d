"""The loss of surface normals."""

from torch import Tensor

from mtl.tasks.losses.base import mean_over_valid
from mtl.tasks.targets import split_validity
from mtl.validation import check_choice

SHORTEST = 1e-12
"""Predictions shorter than this are not scaled up to length 1."""


class CosineLoss:
    """1 - mean cosine between predicted and true normals, over the valid pixels; in [0, 2], 0 where none is valid.

    Prediction (B, 3, H, W), of any length: it is divided by its length here. Target (B, 4, H, W): unit normals, and the
    validity as last channel.

    Args:
        encoding: "unit": cosine of the vectors themselves. "zero_one": both are mapped to (n + 1) / 2 before the dot
            product, as Pascal et al. (arXiv:2109.11678) do in their released code; the value can be negative, its
            smallest is not at the target, and it is no function of the angle.

    Raises:
        ConfigError: unknown encoding, or the shapes of a batch do not belong together.

    **Deviations.** mtan and its descendants (for "unit"): valid is where the components do not sum to 0, which drops
    some valid normals. Ours: the data set's validity. A prediction of length 0 has cosine 0 and a finite gradient.
    """

    def __init__(self, encoding: str = "unit") -> None:
        check_choice("encoding", encoding, ("unit", "zero_one"))
        self.encoding = encoding

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss of one batch."""
        normals, valid = split_validity(prediction, target)
        squares = prediction.square().sum(dim=1, keepdim=True)  # vector_norm over channels is slow on a CPU
        unit = prediction / squares.where(squares > SHORTEST**2, 1).sqrt()
        if self.encoding == "zero_one":
            unit, normals = (unit + 1) / 2, (normals + 1) / 2
        loss = 1 - (unit * normals).sum(dim=1, keepdim=True)
        return mean_over_valid(loss, valid)
