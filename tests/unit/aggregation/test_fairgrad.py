"""FairGrad: G a = a^(-1/alpha), its optimality, and Nash-MTL as a special case."""

import pytest
import torch

from mtl.aggregation import FairGrad, NashMTL
from mtl.aggregation.solvers.bargaining import bargain
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, weigh


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_residual(seed, alpha):
    m = 2 + seed % 39
    rows = jacobian(m, m + 10, seed, scale=seed % 4, shift=0.1 * (seed % 3), condition=seed % 3)
    solution = bargain(rows @ rows.T, 1 / alpha)
    assert solution.converged
    assert solution.weights.min() > 0
    assert ((rows @ rows.T @ solution.weights) * solution.weights ** (1 / alpha) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
def test_is_the_largest_fair_sum(alpha):
    """No other direction of the same length has a larger sum of (g_k . d)^(1 - alpha) / (1 - alpha)."""
    rows = jacobian(4, 6, 1, shift=0.3)
    d = rows.T @ bargain(rows @ rows.T, 1 / alpha).weights

    def utility(gains):
        return (gains ** (1 - alpha) / (1 - alpha)).sum()

    best = utility(rows @ d)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            other = d + size * torch.randn(6, dtype=torch.float64, generator=generator)
            gains = rows @ (other * (d.norm() / other.norm()))
            assert (gains <= 0).any() or utility(gains) <= best + 1e-12 * best.abs()


def test_alpha_one_is_nash_mtl():
    rows = jacobian(6, 9, 1, shift=0.2, scale=1)
    torch.testing.assert_close(weigh(FairGrad(alpha=1.0), rows), weigh(NashMTL(), rows))


def test_orthogonal_rows_by_hand():
    """n^2 a = a^(-1/alpha): a = n^(-2 alpha / (1 + alpha)); alpha 2: n^(-4/3)."""
    rows = torch.diag(torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64))
    assert weigh(FairGrad(max_norm=0), rows).tolist() == pytest.approx([1, 2 ** (-4 / 3), 1 / 16])


def test_max_norm():
    rows = jacobian(3, 9, shift=0.2)
    assert (rows.T @ weigh(FairGrad(max_norm=0.5), rows)).norm().item() == pytest.approx(0.5)


def test_a_zero_row_is_left_out_and_counted():
    method = FairGrad()
    rows = DEGENERATE["zero_row"]
    weights = weigh(method, rows)
    assert weights[1] == 0
    assert method.diagnostics["left_out_total"] == 1
    assert weights[[0, 2]].tolist() == pytest.approx(weigh(FairGrad(), rows[[0, 2]]).tolist())


@pytest.mark.parametrize("kind", ["opposite", "hull_holds_zero"])
def test_stationary_points_stand_still(kind):
    method = FairGrad()
    rows = DEGENERATE[kind]
    assert (rows.T @ weigh(method, rows)).norm() < 1e-6
    assert method.diagnostics["stationary_total"] == 1


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_degenerate(kind, alpha):
    method = FairGrad(alpha=alpha)
    assert torch.isfinite(weigh(method, DEGENERATE[kind])).all()
    assert method.diagnostics["unconverged_total"] == 0


@pytest.mark.parametrize("options", [{"alpha": 0}, {"max_norm": -1}, {"tol": 0}, {"max_iter": 0}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        FairGrad(**options)
