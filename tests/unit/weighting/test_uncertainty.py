"""Uncertainty weighting: formula, gradient, and its parameters' place in the optimizer."""

import math

import pytest
import torch

from mtl.errors import ConfigError
from mtl.strategies import LossWeightingStrategy
from mtl.weighting import Uncertainty
from mtl.weighting.base import Scalarization
from tests.problems import make_batches, make_objective, make_spec

KINDS = ("regression", "classification", "regression")
TASKS = ("a", "b", "c")


def make(s=(0.3, -1.2, 0.0), **options):
    weighting = Uncertainty(**options)
    weighting.setup(TASKS, KINDS, torch.Generator())
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor(s))
    return weighting.double()


@pytest.mark.parametrize(("form", "factors"), [("kendall", (0.5, 1.0, 0.5)), ("half", (0.5, 0.5, 0.5))])
def test_formula_weights_and_gradient(form, factors):
    weighting = make(form=form)
    losses = torch.tensor([2.0, 0.7, 3.0], dtype=torch.float64)
    s = weighting.log_variance.tolist()
    value = sum(a * math.exp(-x) * loss + x / 2 for a, x, loss in zip(factors, s, losses.tolist(), strict=True))
    assert weighting(losses).item() == pytest.approx(value, rel=1e-12)
    weights = weighting.weigh(losses)
    assert weights.tolist() == pytest.approx([a * math.exp(-x) for a, x in zip(factors, s, strict=True)], rel=1e-12)
    expected = [0.5 - a * math.exp(-x) * loss for a, x, loss in zip(factors, s, losses.tolist(), strict=True)]
    assert weighting.log_variance.grad.tolist() == pytest.approx(expected, rel=1e-12)
    assert not weights.requires_grad


def test_gradient_is_that_of_the_scalar():
    weighting = make()
    losses = torch.tensor([2.0, 0.7, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(weighting, (losses.requires_grad_(),))
    weighting.weigh(losses.detach())
    (expected,) = torch.autograd.grad(weighting(losses.detach()), weighting.log_variance)
    torch.testing.assert_close(weighting.log_variance.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["kendall", "half"])
def test_written_out_as_autograd_finds_it(form, dtype):
    weighting, losses = make(form=form), torch.tensor([2.0, 0.7, 3.0], dtype=dtype)
    weights = weighting.weigh(losses)
    gradient = weighting.log_variance.grad.clone()
    expected = Scalarization.weigh(weighting, losses)
    assert weights.dtype == expected.dtype == dtype
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(gradient, weighting.log_variance.grad)


def test_second_call_replaces_the_gradient():
    weighting = make()
    for _ in range(2):
        weighting.weigh(torch.ones(3, dtype=torch.float64))
    first = make()
    first.weigh(torch.ones(3, dtype=torch.float64))
    assert torch.equal(weighting.log_variance.grad, first.log_variance.grad)


def test_initial_value():
    weighting = Uncertainty(initial_log_variance=-0.5)
    weighting.setup(TASKS, KINDS, torch.Generator())
    assert weighting.log_variance.tolist() == [-0.5] * 3


def strategy_with(lr=None, weight_decay=0.1):
    def adam(groups):
        return torch.optim.Adam(groups, lr=0.01, weight_decay=weight_decay)

    specs = [make_spec("a"), make_spec("b", kind="classification"), make_spec("c")]
    strategy = LossWeightingStrategy(Uncertainty(lr=lr, initial_log_variance=0.7))
    objective = make_objective(specs=specs)
    strategy.setup(objective, adam, torch.Generator().manual_seed(0))
    return strategy, objective


@pytest.mark.parametrize(("lr", "expected"), [(None, 0.01), (0.2, 0.2)])
def test_own_group_without_decay_with_own_rate(lr, expected):
    strategy, objective = strategy_with(lr)
    (optimizer,) = strategy.optimizers
    variance = strategy.weighting.log_variance
    own = [group for group in optimizer.param_groups if any(p is variance for p in group["params"])]
    assert len(own) == 1
    assert len(own[0]["params"]) == 1
    assert own[0]["weight_decay"] == 0
    assert own[0]["lr"] == expected
    others = [group for group in optimizer.param_groups if group is not own[0]]
    assert {(group["weight_decay"], group["lr"]) for group in others} == {(0.1, 0.01)}
    held = {id(p) for group in others for p in group["params"]}
    assert held == {id(p) for p in objective.model.parameters()}


def test_a_step_moves_log_variances_like_an_undecayed_adam():
    strategy, _ = strategy_with(lr=0.2)
    reference = torch.full((3,), 0.7, requires_grad=True)
    optimizer = torch.optim.Adam([reference], lr=0.2)
    factors = torch.tensor([0.5, 1.0, 0.5])
    for batch in make_batches():
        losses = strategy.step(batch).losses.float()
        optimizer.zero_grad()
        (factors * torch.exp(-reference) * losses + reference / 2).sum().backward()
        optimizer.step()
        torch.testing.assert_close(strategy.weighting.log_variance.detach(), reference.detach(), rtol=1e-5, atol=1e-6)
    assert (reference.detach() - 0.7).abs().min() > 0.1


@pytest.mark.parametrize(("option", "value"), [("form", "full"), ("lr", 0.0), ("lr", -1.0)])
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        Uncertainty(**{option: value})
