"""Heads: features to the prediction of one task. Each takes `in_features`, `num_outputs` and `output_size`."""

from mtl.models.heads.aspp import ASPPHead
from mtl.models.heads.conv import ConvHead
from mtl.models.heads.linear import LinearHead
from mtl.models.heads.mlp import MLPHead
from mtl.models.heads.multilevel import MultiLevelHead
from mtl.models.heads.psp import PSPHead

__all__ = ["ASPPHead", "ConvHead", "LinearHead", "MLPHead", "MultiLevelHead", "PSPHead"]
