"""Backbones: inputs to features. Each takes `input_shape` and `tasks`, and has an integer `out_features`."""

from mtl.models.backbones.cross_stitch import CrossStitchLeNet
from mtl.models.backbones.lenet import LeNet

__all__ = ["CrossStitchLeNet", "LeNet"]
