"""MoDo against its equation in plain floats, and against the problem whose stochastic descent it is."""

import pytest
import torch

from mtl.aggregation import MoDo
from mtl.aggregation.solvers import active_set
from mtl.errors import ConfigError
from tests.unit.aggregation.test_simplex import by_bisection


def make(m=3, **options):
    aggregator = MoDo(**options)
    aggregator.setup(m)
    return aggregator


def pairs(count=8, m=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        first, second = (torch.randn(m, 5, dtype=torch.float64, generator=generator) for _ in range(2))
        yield first, second


@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (0.001, 0.0), (1.0, 0.5)])
def test_steps_by_hand(gamma, rho):
    aggregator, weights = make(gamma=gamma, rho=rho), [1 / 3] * 3
    for first, second in pairs():
        direction = [sum(weights[k] * second[k, j].item() for k in range(3)) for j in range(5)]
        slopes = [sum(first[i, j].item() * direction[j] for j in range(5)) + rho * weights[i] for i in range(3)]
        moved = torch.tensor([w - gamma * s for w, s in zip(weights, slopes, strict=True)], dtype=torch.float64)
        weights = by_bisection(moved).tolist()
        assert aggregator(first @ second.T).tolist() == pytest.approx(weights, abs=1e-10)


def test_the_order_of_the_samples_matters():
    """J1 J2^T and its transpose give different steps: C is not symmetric."""
    first, second = next(pairs())
    assert not torch.allclose(make()(first @ second.T), make()(second @ first.T))


def test_without_noise_it_finds_the_min_norm_weights():
    """Both samples the same, rho = 0: projected gradient descent on MGDA's problem."""
    for jacobian, _ in pairs(3, seed=3):
        gramian = jacobian @ jacobian.T
        aggregator = make(gamma=0.5 / gramian.norm().item(), rho=0.0)
        for _ in range(2000):
            found = aggregator(gramian)
        torch.testing.assert_close(found, active_set(gramian).weights, rtol=0, atol=1e-6)


def test_a_large_rho_is_uniform():
    aggregator = make(gamma=1e-3, rho=1e3)
    for first, second in pairs():
        found = aggregator(first @ second.T)
    assert found.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_huge_gradients_stay_on_the_simplex():
    found = make(2)(1e30 * torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=torch.float64))
    assert found.sum().item() == pytest.approx(1)
    assert (found >= 0).all()


def test_state_survives_a_round_trip():
    steps = list(pairs())
    whole, first, second = make(), make(), make()
    expected = [whole(a @ b.T).clone() for a, b in steps]
    for a, b in steps[:4]:
        first(a @ b.T)
    second.load_state_dict(first.state_dict())
    for (a, b), weights in zip(steps[4:], expected[4:], strict=True):
        assert torch.equal(second(a @ b.T), weights)


@pytest.mark.parametrize(("option", "value"), [("gamma", 0.0), ("rho", -0.1)])
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        MoDo(**{option: value})
