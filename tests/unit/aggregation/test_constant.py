"""Constant weights."""

import pytest
import torch

from mtl.aggregation import Constant


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("m", [1, 4])
def test_the_same_number_m_times(m, weight):
    weights = Constant(weight)(torch.zeros(m, m, dtype=torch.float64), torch.zeros(m, dtype=torch.float64))
    assert weights.tolist() == [weight] * m
    assert weights.dtype == torch.float64


def test_default_is_one():
    assert Constant()(torch.eye(2), torch.ones(2)).tolist() == [1.0, 1.0]
