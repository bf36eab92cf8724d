"""ConFIG: the paper's formula in vectors, equal cosines, and what has no solution."""

import pytest
import torch

from mtl.aggregation import ConFIG
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, weigh


def paper(rows):
    unit = rows / rows.norm(dim=1, keepdim=True)
    x = torch.linalg.pinv(unit) @ torch.ones(len(rows), dtype=torch.float64)
    u = x / x.norm()
    return (rows @ u).sum() * u


@pytest.mark.parametrize("seed", range(30))
def test_the_formula_and_equal_cosines(seed):
    m = 2 + seed % 9
    rows = jacobian(m, (15, 4)[seed % 2], seed, scale=seed % 3, shift=0.2)
    method = ConFIG()
    d = rows.T @ weigh(method, rows)
    torch.testing.assert_close(d, paper(rows), rtol=1e-7, atol=1e-9 * rows.norm().item())
    if method.diagnostics["rank"] == m:
        cosines = rows @ d / rows.norm(dim=1) / d.norm()
        assert cosines.min() > 0
        assert (cosines.max() - cosines.min()).item() < 1e-9
        assert method.diagnostics["rank_deficient_total"] == 0
    else:
        assert method.diagnostics["rank_deficient_total"] == 1


def test_one_task_keeps_its_gradient():
    assert weigh(ConFIG(), DEGENERATE["one"]).tolist() == pytest.approx([1.0])


def test_two_opposite_gradients_stand_still():
    method = ConFIG()
    weights = weigh(method, DEGENERATE["opposite"][:2])
    assert weights.tolist() == [0, 0]
    assert method.diagnostics["stationary_total"] == 1


def test_a_zero_row_is_left_out():
    method = ConFIG()
    rows = DEGENERATE["zero_row"]
    weights = weigh(method, rows)
    assert weights[1] == 0
    assert weights[[0, 2]].tolist() == pytest.approx(weigh(ConFIG(), rows[[0, 2]]).tolist())
    assert method.diagnostics["left_out_total"] == 1


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    assert torch.isfinite(weigh(ConFIG(), DEGENERATE[kind])).all()


def test_rounding_of_float32_is_no_direction():
    """Three all but equal rows of float32: their products have an eigenvalue below 0, and rank 1."""
    gramian = torch.ones(3, 3, dtype=torch.float64) + torch.diag(torch.full((3,), -2e-7, dtype=torch.float64))
    method = ConFIG()
    weights = method(gramian, torch.ones(3))
    assert method.diagnostics["rank"] == 1
    assert method.diagnostics["rank_deficient_total"] == 1
    assert weights.tolist() == pytest.approx([weights[0].item()] * 3)
    assert 0 < weights[0] < 2
