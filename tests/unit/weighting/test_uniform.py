"""Uniform weights."""

import pytest
import torch

from mtl.errors import ConfigError
from mtl.weighting import Uniform


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 4])
def test_sum_and_mean(m, dtype):
    losses = torch.arange(m, dtype=dtype)
    assert Uniform().weigh(losses).tolist() == [1.0] * m
    assert Uniform("mean").weigh(losses).tolist() == pytest.approx([1 / m] * m)
    assert Uniform("mean").weigh(losses).dtype == dtype


def test_options_are_checked():
    with pytest.raises(ConfigError, match="reduce"):
        Uniform("max")
