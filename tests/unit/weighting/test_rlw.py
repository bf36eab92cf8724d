"""Random loss weighting."""

import pytest
import torch

from mtl.errors import ConfigError
from mtl.weighting import RLW


def draws(count=20, m=3, seed=0, **options):
    weighting = RLW(**options)
    weighting.setup(tuple("abcdefgh"[:m]), ("regression",) * m, torch.Generator().manual_seed(seed))
    return torch.stack([weighting.weigh(torch.zeros(m, dtype=torch.float64)) for _ in range(count)])


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
@pytest.mark.parametrize(("total", "expected"), [("num_tasks", 4.0), ("one", 1.0)])
def test_totals(distribution, total, expected):
    weights = draws(m=4, distribution=distribution, total=total)
    torch.testing.assert_close(weights.sum(1), torch.full((20,), expected, dtype=torch.float64))
    assert (weights > 0).all()
    assert (weights[0] - weights[1]).abs().max() > 1e-3


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_mean_is_uniform(distribution):
    """4000 draws: six standard errors."""
    weights = draws(4000, distribution=distribution)
    error = weights.std(0) / 4000**0.5
    assert ((weights.mean(0) - 1).abs() < 6 * error).all()


def test_normal_is_a_softmax_of_normals():
    """log w_1 - log w_2 = x_1 - x_2 ~ N(0, 2)."""
    difference = draws(4000, m=2).log().diff(dim=1)
    assert difference.mean().item() == pytest.approx(0, abs=0.15)
    assert difference.var().item() == pytest.approx(2, rel=0.15)
    fourth = ((difference / difference.std()) ** 4).mean().item()
    assert fourth == pytest.approx(3, abs=0.5)


def test_dirichlet_is_uniform_on_the_simplex():
    """m = 2: the first weight is uniform on [0, 1]. m = 3: variance (m - 1) / (m^2 (m + 1)) = 1 / 18."""
    first = draws(4000, m=2, distribution="dirichlet", total="one")[:, 0].sort().values
    grid = torch.linspace(0, 1, 4000, dtype=torch.float64)
    assert (first - grid).abs().max() < 0.03  # Kolmogorov distance, 1.6 / sqrt(4000) = 0.026 is the 1 % point
    third = draws(4000, m=3, distribution="dirichlet", total="one")
    assert third.var(0).tolist() == pytest.approx([1 / 18] * 3, rel=0.1)


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_only_its_own_generator(distribution):
    before = torch.get_rng_state()
    first = draws(distribution=distribution)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(17)
    assert torch.equal(first, draws(distribution=distribution))
    assert not torch.equal(first, draws(distribution=distribution, seed=1))


def test_dtype_follows_the_losses():
    weighting = RLW()
    weighting.setup(("a", "b"), ("regression",) * 2, torch.Generator())
    assert weighting.weigh(torch.zeros(2)).dtype == torch.float32


@pytest.mark.parametrize(("option", "value"), [("distribution", "uniform"), ("total", "two")])
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        RLW(**{option: value})
