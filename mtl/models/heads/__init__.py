"""Heads: features to the prediction of one task. Each takes `in_features` and `num_outputs`."""

from mtl.models.heads.linear import LinearHead
from mtl.models.heads.mlp import MLPHead

__all__ = ["LinearHead", "MLPHead"]
