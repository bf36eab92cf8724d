"""Geometric mean: formula, derivative, range."""

import pytest
import torch

from mtl.errors import ConfigError, NonFiniteError
from mtl.weighting import GLS


def make(m=3, **options):
    weighting = GLS(**options)
    weighting.setup(tuple("abcdefgh"[:m]), ("regression",) * m, torch.Generator())
    return weighting


def test_by_hand():
    """Losses 1, 8, 1: G = 8^(1/3) = 2; weights G / (3 L) = 2/3, 1/12, 2/3."""
    losses = torch.tensor([1.0, 8.0, 1.0], dtype=torch.float64)
    assert make()(losses).item() == pytest.approx(2)
    assert make().weigh(losses).tolist() == pytest.approx([2 / 3, 1 / 12, 2 / 3], rel=1e-12)
    assert make(scale="num_tasks").weigh(losses).tolist() == pytest.approx([2.0, 0.25, 2.0], rel=1e-12)


def test_the_numbers_that_libmtl_logs_are_not_the_derivative():
    """Pitfalls: L / (m prod L) is what it logs; the true weights by autograd through the product."""
    losses = torch.tensor([0.9, 16.0, 0.25], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(losses.prod() ** (1 / 3), losses)
    weights = make().weigh(losses.detach())
    torch.testing.assert_close(weights, expected)
    assert not torch.allclose(weights, losses.detach() / (3 * losses.prod().detach()))
    assert not weights.requires_grad


def test_equal_losses():
    losses = torch.full((3,), 0.7, dtype=torch.float64)
    assert make().weigh(losses).tolist() == pytest.approx([1 / 3] * 3)
    assert make(scale="num_tasks").weigh(losses).tolist() == pytest.approx([1.0] * 3)


def test_a_factor_on_a_loss_keeps_the_direction():
    """Gradients scale with the loss: w_k c_k is the same for all tasks up to one number."""
    losses = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    factors = torch.tensor([100.0, 1.0, 1.0], dtype=torch.float64)
    ratio = make().weigh(losses * factors) * factors / make().weigh(losses)
    assert ratio.tolist() == pytest.approx([100 ** (1 / 3)] * 3)


@pytest.mark.parametrize("value", [1e-20, 1e20])
def test_eight_losses_whose_product_is_out_of_range(value):
    losses = torch.full((8,), value)
    assert make(8)(losses).item() == pytest.approx(value, rel=1e-5)
    assert make(8).weigh(losses).tolist() == pytest.approx([1 / 8] * 8, rel=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_losses_have_to_be_positive(bad):
    with pytest.raises(NonFiniteError, match=r"GLS is defined for losses > 0. Found b = ") as caught:
        make().weigh(torch.tensor([1.0, bad, 1.0]))
    assert caught.value.tasks == ("b",)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="scale"):
        GLS(scale="sum")
