"""Data sets: modules that give the splits, and the loader over them."""

from mtl.datasets.base import Batch, DataModule, Loader, Split, TensorSplit
from mtl.datasets.celeba import CelebA
from mtl.datasets.cityscapes import Cityscapes
from mtl.datasets.multidigits import MultiDigits
from mtl.datasets.multimnist import MultiMNIST
from mtl.datasets.nyuv2 import NYUv2

__all__ = [
    "Batch",
    "CelebA",
    "Cityscapes",
    "DataModule",
    "Loader",
    "MultiDigits",
    "MultiMNIST",
    "NYUv2",
    "Split",
    "TensorSplit",
]
