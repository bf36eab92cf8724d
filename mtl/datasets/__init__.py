"""Data sets: modules that give the splits as tensors, and the loader over them."""

from mtl.datasets.base import Batch, DataModule, TensorLoader, TensorSplit
from mtl.datasets.multidigits import MultiDigits
from mtl.datasets.multimnist import MultiMNIST

__all__ = ["Batch", "DataModule", "MultiDigits", "MultiMNIST", "TensorLoader", "TensorSplit"]
