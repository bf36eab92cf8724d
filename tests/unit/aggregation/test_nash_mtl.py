"""Nash-MTL: G a = 1/a, whatever the scales; zero rows and stationary points; the limit of the norm."""

import pytest
import torch

from mtl.aggregation import NashMTL
from mtl.aggregation.solvers.bargaining import bargain
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, weigh


def residual(rows, a):
    return (a * (rows @ rows.T @ a) - 1).abs().max().item()


@pytest.mark.parametrize("seed", range(200))
def test_residual(seed):
    """Condition of the Gramian up to 1e8 (that of the Jacobian 1e4), rows scaled by 1e-6 ... 1e6."""
    m = 2 + seed % 39
    rows = jacobian(m, m + 10, seed, scale=6 * (seed % 3) / 2, shift=0.1 * (seed % 4), condition=seed % 5)
    solution = bargain(rows @ rows.T)
    assert solution.converged
    assert not solution.stationary
    assert solution.weights.min() > 0
    assert residual(rows, solution.weights) < 1e-6
    assert solution.iterations <= 40


@pytest.mark.parametrize("seed", range(40))
def test_condition_beyond_what_a_gramian_holds(seed):
    """Jacobians of condition 1e8: float64 products know 1e16 no more. Solved up to rounding, or found stationary."""
    m = 2 + seed % 39
    rows = jacobian(m, m + 10, seed, scale=6, condition=8)
    solution = bargain(rows @ rows.T)
    assert solution.converged
    assert torch.isfinite(solution.weights).all()
    assert solution.weights.min() >= 0
    if not solution.stationary:
        assert residual(rows, solution.weights) < 1


def test_is_the_largest_product_of_gains():
    """No other direction of the same length has a larger sum of log g_k . d."""
    rows = jacobian(4, 6, 1, shift=0.3)
    d = rows.T @ bargain(rows @ rows.T).weights
    best = (rows @ d).log().sum()
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            other = d + size * torch.randn(6, dtype=torch.float64, generator=generator)
            gains = rows @ (other * (d.norm() / other.norm()))
            assert (gains <= 0).any() or gains.log().sum() <= best + 1e-12


def test_scaling_a_task_changes_nothing():
    rows = jacobian(5, 9, 2, shift=0.2)
    scales = 10 ** torch.linspace(-6, 6, 5, dtype=torch.float64)[:, None]
    d = rows.T @ weigh(NashMTL(), rows)
    torch.testing.assert_close((rows * scales).T @ weigh(NashMTL(), rows * scales), d, rtol=1e-8, atol=1e-8)


def test_orthogonal_rows_by_hand():
    rows = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    assert weigh(NashMTL(max_norm=0), rows).tolist() == pytest.approx([1, 1 / 2, 1 / 4])


@pytest.mark.parametrize(("max_norm", "expected"), [(0, 3**0.5), (1.0, 1.0), (5.0, 3**0.5), (1e-3, 1e-3)])
def test_max_norm(max_norm, expected):
    rows = jacobian(3, 9, shift=0.2)
    method = NashMTL(max_norm=max_norm)
    assert (rows.T @ weigh(method, rows)).norm().item() == pytest.approx(expected)
    assert method.diagnostics["update_norm"] == pytest.approx(3**0.5)
    assert method.diagnostics["clip_factor"] == pytest.approx(min(1, expected / 3**0.5))


def test_a_zero_row_is_left_out():
    method = NashMTL()
    rows = DEGENERATE["zero_row"]
    weights = weigh(method, rows)
    assert weights[1] == 0
    assert weights[[0, 2]].tolist() == pytest.approx(weigh(NashMTL(), rows[[0, 2]]).tolist())
    assert method.diagnostics["left_out_total"] == 1
    assert method.diagnostics["stationary_total"] == 0


@pytest.mark.parametrize("kind", ["opposite", "hull_holds_zero"])
def test_stationary_points_stand_still(kind):
    method = NashMTL()
    rows = DEGENERATE[kind]
    weights = weigh(method, rows)
    assert weights.sum().item() == pytest.approx(1)
    assert (rows.T @ weights).norm() < 1e-6
    assert method.diagnostics["stationary_total"] == 1
    assert method.diagnostics["unconverged_total"] == 0


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    method = NashMTL()
    weights = weigh(method, DEGENERATE[kind])
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()
    assert method.diagnostics["unconverged_total"] == 0


def test_indefinite_by_float32():
    """Two all but equal rows in float32: the product has an eigenvalue below 0."""
    rows = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(6, 1)
    gramian = (rows @ rows.T).double()
    gramian[0, 1] = gramian[1, 0] = gramian[0, 1] * (1 + 3e-7)
    assert torch.linalg.eigvalsh(gramian)[0] < -1e-6
    solution = bargain(gramian)
    assert solution.converged
    assert torch.isfinite(solution.weights).all()


def test_a_limit_that_is_hit_is_counted():
    method = NashMTL(max_iter=1)
    weigh(method, jacobian(10, 12, 1, condition=3))
    assert method.diagnostics["unconverged_total"] == 1


@pytest.mark.parametrize("options", [{"max_norm": -1}, {"tol": 0}, {"max_iter": 0}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        NashMTL(**options)
