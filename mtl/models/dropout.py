"""Dropout variants that published code uses."""

import torch
from torch import Tensor, nn

from mtl.validation import check_choice, check_fraction

DROPOUTS = ("none", "standard", "released_code")


class SharedMaskDropout(nn.Module):
    """Dropout as in the released code of Sener and Koltun 2018: one mask for the whole batch, kept values not rescaled.

    The mask has the shape of one sample, with spatial axes of size 1 (whole channels drop). At evaluation nothing is
    dropped; as nothing was rescaled either, activations are then larger than in training. Named so that a result can
    say it was used; `standard` is the correct one.

    Args:
        p: Probability that a unit is dropped, in [0, 1].
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Drop units of `values` (B, C, ...) in training mode."""
        if not self.training:
            return values
        mask = torch.empty((1, values.shape[1], *(1,) * (values.ndim - 2)), device=values.device, dtype=values.dtype)
        return values * mask.bernoulli_(1 - self.p)


def make_dropout(kind: str, p: float, *, channels: bool) -> nn.Module:
    """A dropout module: `none`, `standard` (rescaled, a mask per sample) or `released_code` (see SharedMaskDropout)."""
    check_choice("dropout", kind, DROPOUTS)
    check_fraction("dropout_rate", p)
    if kind == "none":
        return nn.Identity()
    if kind == "released_code":
        return SharedMaskDropout(p)
    return nn.Dropout2d(p) if channels else nn.Dropout(p)
