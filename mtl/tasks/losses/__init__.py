"""Losses: prediction and target of one task to one scalar.

Void and invalid pixels get no gradient and have no influence. Means are over the valid pixels of the batch; a batch
without any gives 0 with graph, so a step goes on with the other tasks.
"""

from mtl.tasks.losses.base import Loss
from mtl.tasks.losses.binary import BalancedBinaryCrossEntropy, BinaryCrossEntropy
from mtl.tasks.losses.classification import CrossEntropy, DenseCrossEntropy, OneHotBinaryCrossEntropy
from mtl.tasks.losses.normals import CosineLoss
from mtl.tasks.losses.regression import L1, L2, MaskedL1, MaskedL2

__all__ = [
    "L1",
    "L2",
    "BalancedBinaryCrossEntropy",
    "BinaryCrossEntropy",
    "CosineLoss",
    "CrossEntropy",
    "DenseCrossEntropy",
    "Loss",
    "MaskedL1",
    "MaskedL2",
    "OneHotBinaryCrossEntropy",
]
