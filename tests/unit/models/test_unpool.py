"""Unpooling equals torch's, and is deterministic."""

import pytest
import torch
from torch.nn import functional

from mtl.models.backbones.segnet import unpool


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_equal_to_max_unpool2d(size):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled, index = functional.max_pool2d_with_indices(maps, (2, 2))
    leaf = pooled.clone().requires_grad_()
    expected = functional.max_unpool2d(leaf, index, (2, 2), output_size=list(size))
    weight = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), leaf)
    torch.use_deterministic_algorithms(True)
    try:
        found = unpool(leaf, index, maps.shape)
        (gradient,) = torch.autograd.grad((found * weight).sum(), leaf)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, expected)
    assert torch.equal(gradient, expected_gradient)
