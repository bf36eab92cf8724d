"""Dense heads and losses avoid the operations that raise under deterministic algorithms on CUDA.

There may be no CUDA device here, so the operations themselves are watched: those that use_deterministic_algorithms
lists as raising. `interpolate` replaces its own there.
"""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.models.backbones import SegNet, SegNetMTAN, UNet
from mtl.models.heads import ASPPHead, ConvHead, MultiLevelHead, PSPHead
from mtl.models.heads.pooled import pool
from mtl.tasks import BalancedBinaryCrossEntropy, CosineLoss, DenseCrossEntropy, MaskedL1, OneHotBinaryCrossEntropy

RAISING = ("_adaptive_avg_pool2d_backward", "max_unpool2d", "grid_sampler_2d_backward", "reflection_pad2d_backward")


class Watch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.raising = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if name in RAISING or (name == "nll_loss2d_forward" and args[3] != 0):
            self.raising.append(name)
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_it_should():
    with Watch() as watch:
        logits = torch.randn(2, 3, 5, 7, requires_grad=True)
        functional.cross_entropy(logits, torch.zeros(2, 5, 7).long()).backward()
        functional.adaptive_avg_pool2d(logits, 2).sum().backward()
    assert watch.raising == ["nll_loss2d_forward", "_adaptive_avg_pool2d_backward"]


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: SegNet((3, 16, 16), filters=(4, 6)),
        lambda: SegNetMTAN((3, 16, 16), ("a", "b"), filters=(4, 6)),
        lambda: UNet((3, 16, 16), filters=(4, 6)),
    ],
)
def test_backbones(backbone):
    with Watch() as watch:
        maps = backbone()(torch.randn(2, 3, 16, 16))
        sum(one.sum() for one in (maps.values() if isinstance(maps, dict) else [maps])).backward()
    assert watch.raising == []


@pytest.mark.parametrize("head", [ConvHead, PSPHead, ASPPHead])
def test_heads_of_one_map(head):
    with Watch() as watch:
        head(4, 3, (16, 16))(torch.randn(2, 4, 8, 8)).sum().backward()
    assert watch.raising == []


def test_the_head_of_several_maps():
    with Watch() as watch:
        MultiLevelHead((4, 6), 3, (16, 16))((torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4))).sum().backward()
    assert watch.raising == []


@pytest.mark.parametrize(
    ("loss", "channels", "target"),
    [
        (DenseCrossEntropy(), 3, torch.zeros(2, 5, 7).long()),
        (DenseCrossEntropy([1.0, 2.0, 0.5]), 3, torch.zeros(2, 5, 7).long()),
        (OneHotBinaryCrossEntropy(), 3, torch.zeros(2, 5, 7).long()),
        (BalancedBinaryCrossEntropy(), 1, torch.zeros(2, 5, 7).long()),
        (CosineLoss(), 3, torch.ones(2, 4, 5, 7)),
        (MaskedL1(), 1, torch.ones(2, 2, 5, 7)),
    ],
)
def test_losses(loss, channels, target):
    with Watch() as watch:
        loss(torch.randn(2, channels, 5, 7, requires_grad=True), target).backward()
    assert watch.raising == []


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(6, 12), (5, 7), (4, 3)])
def test_pooling_by_products_is_adaptive_pooling(bins, size):
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(pool(maps, bins), functional.adaptive_avg_pool2d(maps, bins))
