"""CAGrad: the constrained problem it solves, the scale of its result, and what is undefined elsewhere."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mtl.aggregation import CAGrad
from mtl.aggregation.solvers.conflict_averse import conflict_averse
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, tensor, weigh


def plain(c=0.4):
    return CAGrad(c=c, rescale="none", match_sum=False)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9, 1.5])
def test_on_the_sphere_and_no_task_falls_short(seed, c):
    """|d - g0| = c |g0|, and g_k . d >= the dual value: primal and dual agree, hence both are optimal."""
    rows = jacobian(2 + seed % 12, 20, seed, scale=(seed % 4), shift=0.2)
    method = plain(c)
    weights = weigh(method, rows)
    g0, d = rows.mean(0), rows.T @ weights
    assert (d - g0).norm().item() == pytest.approx(c * g0.norm().item(), rel=1e-9)
    share = weights - 1 / len(rows)
    assert share.min() >= -1e-15
    share = share / share.sum()
    dual = (rows.T @ share) @ g0 + c * g0.norm() * (rows.T @ share).norm()
    shortfall = (dual - rows @ d) / (rows.norm(dim=1) * g0.norm())
    assert shortfall.max() < 1e-9
    assert method.diagnostics["unconverged_total"] == 0
    assert method.diagnostics["stationary_total"] == 0


@pytest.mark.parametrize("seed", range(10))
def test_against_scipy(seed):
    """A second opinion: SLSQP on the dual, well scaled, is never better, and close."""
    m, c = 2 + seed % 4, 0.4
    rows = jacobian(m, 9, seed, shift=0.1)
    gramian = (rows @ rows.T).numpy()
    b, radius = gramian.mean(1), c * np.sqrt(gramian.mean())

    def dual(w):
        return w @ b + radius * np.sqrt(w @ gramian @ w)

    found = minimize(
        dual,
        np.full(m, 1 / m),
        bounds=[(0, 1)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        tol=1e-12,
    )
    extra = conflict_averse(rows @ rows.T, c).extra.numpy()
    mine = dual(extra / extra.sum())
    assert mine <= found.fun + 1e-9 * abs(found.fun)
    assert mine == pytest.approx(found.fun, rel=1e-4)


def test_the_ball_is_what_limits_the_worst_task():
    rows = jacobian(4, 9, 3, shift=0.3)
    worst = [(rows @ rows.T @ weigh(plain(c), rows)).min().item() for c in (0.0, 0.2, 0.4, 0.8)]
    assert worst == sorted(worst)
    assert worst[0] < worst[-1]


def test_scale_of_the_result():
    rows = jacobian(3, 9, shift=0.3)
    base = weigh(plain(), rows)
    for rescale, factor in (("none", 1), ("one_plus_c_squared", 1.16), ("one_plus_c", 1.4)):
        for match_sum in (True, False):
            found = weigh(CAGrad(rescale=rescale, match_sum=match_sum), rows)
            torch.testing.assert_close(found, base * (3 if match_sum else 1) / factor)


def test_c_zero_is_the_average_and_with_match_sum_the_sum():
    rows = jacobian(5, 9)
    assert weigh(plain(0.0), rows).tolist() == [1 / 5] * 5
    assert weigh(CAGrad(c=0.0), rows).tolist() == pytest.approx([1.0] * 5)


def test_common_scale_and_order():
    rows = jacobian(6, 9, shift=0.2)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    weights = weigh(CAGrad(), rows)
    torch.testing.assert_close(weigh(CAGrad(), rows * 1e5), weights, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(weigh(CAGrad(), rows[order]), weights[order], rtol=1e-8, atol=1e-10)


def test_zero_average_gives_a_zero_step():
    rows = tensor([1.0, 2.0], [-1.0, -2.0])
    method = plain()
    assert (rows.T @ weigh(method, rows)).norm() == 0
    assert method.diagnostics["stationary_total"] == 1


def test_a_zero_gradient_counts_in_the_average_only():
    rows = DEGENERATE["zero_row"]
    weights = weigh(plain(), rows)
    assert weights[1].item() == pytest.approx(1 / 3)
    d, g0 = rows.T @ weights, rows.mean(0)
    assert (d - g0).norm().item() == pytest.approx(0.4 * g0.norm().item())


def test_stationary_without_binding_is_the_dual_cone_projection():
    """a and -a fix d to the plane at right angles to them; c = 0.9 leaves room for the projection."""
    rows = DEGENERATE["opposite"].clone()
    rows[1] = -1.2 * rows[0]
    rows[2] = tensor(0.0, 4.0, 8.0)
    method = plain(0.9)
    d = rows.T @ weigh(method, rows)
    g0, normal = rows.mean(0), rows[0] / rows[0].norm()
    torch.testing.assert_close(d, g0 - (g0 @ normal) * normal, rtol=1e-9, atol=1e-9)
    assert method.diagnostics["stationary_total"] == 1
    assert method.diagnostics["unconverged_total"] == 0


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("c", [0.0, 0.4, 1.0, 2.0])
def test_degenerate(kind, c):
    rows = DEGENERATE[kind]
    method = plain(c)
    weights = weigh(method, rows)
    g0, d = rows.mean(0), rows.T @ weights
    assert torch.isfinite(weights).all()
    assert (d - g0).norm() <= c * g0.norm() * (1 + 1e-6) + 1e-12 * rows.norm()
    assert method.diagnostics["unconverged_total"] == 0


def test_a_limit_that_is_hit_is_counted():
    method = CAGrad(max_iter=1)
    rows = jacobian(30, 40, 3)
    weigh(method, rows)
    weigh(method, rows)
    assert method.diagnostics["unconverged_total"] == 2


@pytest.mark.parametrize(
    "options", [{"c": -1}, {"rescale": 1}, {"match_sum": "yes"}, {"tol": 0}, {"max_iter": 0}], ids=str
)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        CAGrad(**options)


@pytest.mark.parametrize("c", [0.4, 10.0])
def test_rank_one_float32_gramians_give_finite_real_weights(c):
    """Rounding makes squares negative here, of which no root may be taken."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        jacobian = torch.randn(40, 1, generator=generator) @ torch.randn(1, 50, generator=generator)
        found = conflict_averse((jacobian @ jacobian.T).double(), c)
        assert found.extra.dtype == torch.float64
        assert torch.isfinite(found.extra).all()


def test_many_tasks_whose_answer_is_one_of_them():
    """Cheap tasks along one direction beside it: nothing is added to the start."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(12, 40, dtype=torch.float64, generator=generator)
    spread[:, 0] = 0.0
    jacobian = torch.cat([torch.eye(1, 40, dtype=torch.float64), 3 * spread + 50 * torch.eye(1, 40)])
    found = conflict_averse(jacobian @ jacobian.T, 0.5)
    assert found.converged
    assert found.iterations == 0
    assert found.extra.nonzero().flatten().tolist() == [0]
