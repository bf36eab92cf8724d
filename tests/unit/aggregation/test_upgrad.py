"""UPGrad: the projection's conditions, no conflict, and the options."""

import pytest
import torch

from mtl.aggregation import UPGrad
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, tensor, weigh
from tests.unit.aggregation.test_dual_cone import check_kkt


@pytest.mark.parametrize("seed", range(30))
def test_no_conflict(seed):
    """Also where the rows' scales differ by 1e6 and there are more tasks than dimensions."""
    m = 2 + seed % 11
    rows = jacobian(m, (20, 6, 3)[seed % 3], seed, scale=seed % 4)
    method = UPGrad()
    weights = weigh(method, rows)
    gains = rows @ (rows.T @ weights) / rows.norm(dim=1) / rows.norm(dim=1).sum()
    assert gains.min() > -1e-9
    assert (weights >= 1 / m - 1e-12).all()
    assert method.diagnostics["unconverged_total"] == 0
    assert method.diagnostics["kkt_residual"] < 1e-9


def test_is_the_mean_of_the_projections():
    rows = jacobian(6, 5, 4)
    parts = [project_to_dual_cone(rows @ rows.T, unit[None]).weights for unit in torch.eye(6, dtype=torch.float64)]
    for part, unit in zip(parts, torch.eye(6, dtype=torch.float64), strict=True):
        check_kkt(rows, unit[None], part)
    expected = torch.cat(parts).mean(0) @ rows
    torch.testing.assert_close(weigh(UPGrad(), rows) @ rows, expected, rtol=1e-8, atol=1e-10)


def test_without_conflict_it_is_the_average():
    rows = jacobian(4, 9, 0).abs()
    assert weigh(UPGrad(), rows).tolist() == pytest.approx([1 / 4] * 4)
    assert weigh(UPGrad(reduce="sum"), rows).tolist() == pytest.approx([1.0] * 4)


def test_sum_is_m_times_the_mean():
    rows = jacobian(5, 9, 2)
    torch.testing.assert_close(weigh(UPGrad(), rows) * 5, weigh(UPGrad(reduce="sum"), rows))


def test_regularisation_is_not_the_definition():
    """A small part of the trace is large for the small row: the result keeps its conflict with it."""
    rows = tensor([1000.0, 0.0], [-1.0, 0.1])
    exact, moved = rows.T @ weigh(UPGrad(), rows), rows.T @ weigh(UPGrad(reg_eps=1e-4), rows)
    assert (rows @ exact).min() > -1e-9 * exact.norm()
    assert (rows @ moved)[1] < -0.5 * moved.norm()
    assert (exact - moved).norm() > 0.5 * exact.norm()


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    method = UPGrad()
    rows = DEGENERATE[kind]
    weights = weigh(method, rows)
    assert torch.isfinite(weights).all()
    assert method.diagnostics["unconverged_total"] == 0
    assert (rows @ (rows.T @ weights) >= -1e-7 * rows.norm(dim=1) * rows.norm(dim=1).sum()).all()


def test_a_limit_that_is_hit_is_counted():
    method = UPGrad(max_iter=1)
    weigh(method, jacobian(12, 6, 0))
    assert method.diagnostics["unconverged_total"] == 1


@pytest.mark.parametrize("options", [{"reduce": "max"}, {"reg_eps": -1}, {"tol": 0}, {"max_iter": 0}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        UPGrad(**options)
