"""Backbones: inputs to features. Each takes `input_shape` and `tasks`, and has `out_features` (one or a tuple)."""

from mtl.models.backbones.celeba_cnn import CelebACNN
from mtl.models.backbones.cross_stitch import CrossStitchLeNet
from mtl.models.backbones.lenet import LeNet
from mtl.models.backbones.resnet18_cifar import ResNet18Cifar
from mtl.models.backbones.resnet50_dilated import ResNet50Dilated
from mtl.models.backbones.segnet import SegNet
from mtl.models.backbones.segnet_mtan import SegNetMTAN
from mtl.models.backbones.timm import TimmBackbone
from mtl.models.backbones.unet import UNet

__all__ = [
    "CelebACNN",
    "CrossStitchLeNet",
    "LeNet",
    "ResNet18Cifar",
    "ResNet50Dilated",
    "SegNet",
    "SegNetMTAN",
    "TimmBackbone",
    "UNet",
]
