"""IMTL-L: formula, gradient, minimum, and its parameters' place in the optimizer."""

import math

import pytest
import torch

from mtl.errors import ConfigError
from mtl.strategies import LossWeightingStrategy
from mtl.weighting import IMTLL, Uncertainty
from tests.problems import make_batches, make_objective

LOSSES = torch.tensor([2.0, 0.7, 3.0], dtype=torch.float64)
KINDS = ("regression",) * 3


def make(s=(0.3, -1.2, 0.0), **options):
    weighting = IMTLL(**options)
    weighting.setup(("a", "b", "c"), KINDS, torch.Generator())
    with torch.no_grad():
        weighting.log_scale.copy_(torch.tensor(s))
    return weighting.double()


def test_formula_weights_and_gradient():
    weighting = make()
    s = weighting.log_scale.tolist()
    value = sum(math.exp(x) * loss - x for x, loss in zip(s, LOSSES.tolist(), strict=True))
    assert weighting(LOSSES).item() == pytest.approx(value, rel=1e-12)
    assert weighting.weigh(LOSSES).tolist() == pytest.approx([math.exp(x) for x in s], rel=1e-12)
    expected = [math.exp(x) * loss - 1 for x, loss in zip(s, LOSSES.tolist(), strict=True)]
    assert weighting.log_scale.grad.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_minimum_makes_scaled_losses_equal():
    weighting = make(s=[-math.log(loss) for loss in LOSSES.tolist()])
    assert (weighting.weigh(LOSSES) * LOSSES).tolist() == pytest.approx([1.0] * 3, rel=1e-6)
    assert weighting.log_scale.grad.abs().max() < 1e-6


def test_it_is_twice_uncertainty_with_the_other_sign():
    other = Uncertainty(form="half")
    other.setup(("a", "b", "c"), KINDS, torch.Generator())
    other.double()
    mine = make()
    with torch.no_grad():
        other.log_variance.copy_(-mine.log_scale)
    torch.testing.assert_close(mine(LOSSES), 2 * other(LOSSES))


@pytest.mark.parametrize(("lr", "expected"), [(None, 0.01), (0.2, 0.2)])
def test_own_group_without_decay_with_own_rate(lr, expected):
    strategy = LossWeightingStrategy(IMTLL(lr=lr, initial_scale=0.7))
    strategy.setup(
        make_objective(),
        lambda groups: torch.optim.Adam(groups, lr=0.01, weight_decay=0.1),
        torch.Generator().manual_seed(0),
    )
    scale = strategy.weighting.log_scale
    (own,) = [g for g in strategy.optimizers[0].param_groups if any(p is scale for p in g["params"])]
    assert (len(own["params"]), own["weight_decay"], own["lr"]) == (1, 0.0, expected)
    reference = torch.full((3,), 0.7, requires_grad=True)
    optimizer = torch.optim.Adam([reference], lr=expected)
    for batch in make_batches():
        losses = strategy.step(batch).losses.float()
        optimizer.zero_grad()
        (torch.exp(reference) * losses - reference).sum().backward()
        optimizer.step()
        torch.testing.assert_close(scale.detach(), reference.detach(), rtol=1e-5, atol=1e-6)
    assert (reference.detach() - 0.7).abs().min() > 0.01


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_options_are_checked(value):
    with pytest.raises(ConfigError, match="lr"):
        IMTLL(lr=value)
