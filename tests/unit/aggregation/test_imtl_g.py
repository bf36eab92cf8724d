"""IMTL-G: equal projections, the paper's closed form, and a rank that is too low."""

import pytest
import torch

from mtl.aggregation import IMTLG
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, tensor, weigh


def paper(rows):
    """The closed form of the paper, in vectors: alpha_2.. = g1 U^T (D U^T)^-1."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    d, u = rows[0] - rows[1:], unit[0] - unit[1:]
    rest = rows[0] @ u.T @ torch.linalg.inv(d @ u.T)
    return torch.cat([1 - rest.sum()[None], rest])


@pytest.mark.parametrize("seed", range(30))
def test_equal_projections_and_the_closed_form(seed):
    m = 2 + seed % 9
    rows = jacobian(m, 15, seed, scale=seed % 3, shift=0.2)
    method = IMTLG()
    weights = weigh(method, rows)
    projections = rows @ (rows.T @ weights) / rows.norm(dim=1)
    scale = (rows.norm(dim=1) * weights.abs()).sum()
    assert (projections.max() - projections.min()) / scale < 1e-10
    assert weights.sum().item() == pytest.approx(1)
    assert method.diagnostics["rank"] == m
    assert method.diagnostics["rank_deficient_total"] == 0
    assert method.diagnostics["projection"] == pytest.approx(projections.mean().item(), rel=1e-6, abs=1e-12)
    if seed % 3 == 0:
        torch.testing.assert_close(weights, paper(rows), rtol=1e-8, atol=1e-10)


def test_a_duplicate_shares_and_is_counted():
    method = IMTLG()
    rows = DEGENERATE["duplicates"]
    weights = weigh(method, rows)
    projections = rows @ (rows.T @ weights) / rows.norm(dim=1)
    assert projections.tolist() == pytest.approx([projections[0].item()] * 3)
    assert weights[0].item() == pytest.approx(weights[1].item())
    assert weights.sum().item() == pytest.approx(1)
    assert method.diagnostics["rank_deficient_total"] == 1


def test_opposite_gradients_stand_still():
    method = IMTLG()
    rows = DEGENERATE["opposite"]
    weights = weigh(method, rows)
    assert weights.sum().item() == pytest.approx(1)
    assert (rows.T @ weights).norm() < 1e-9
    assert method.diagnostics["rank_deficient_total"] == 1


def test_more_tasks_than_dimensions_differ_least():
    """No other weights that sum to 1 have projections with a smaller variance."""
    rows = DEGENERATE["more_tasks_than_parameters"]
    method = IMTLG()
    weights = weigh(method, rows)

    def variance(w):
        return (rows @ (rows.T @ w) / rows.norm(dim=1)).var().item()

    best = variance(weights)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        move = torch.randn(len(rows), dtype=torch.float64, generator=generator)
        assert variance(weights + 0.1 * (move - move.mean())) >= best - 1e-12
    assert method.diagnostics["rank"] == 2


def test_a_zero_row_is_left_out():
    method = IMTLG()
    rows = DEGENERATE["zero_row"]
    weights = weigh(method, rows)
    assert weights[1] == 0
    assert weights[[0, 2]].tolist() == pytest.approx(weigh(IMTLG(), rows[[0, 2]]).tolist())
    assert method.diagnostics["left_out_total"] == 1


def test_two_tasks_by_hand():
    """Bisector: weights are inverse to the norms."""
    assert weigh(IMTLG(), tensor([2.0, 0.0], [0.0, 6.0])).tolist() == pytest.approx([3 / 4, 1 / 4])


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    assert torch.isfinite(weigh(IMTLG(), DEGENERATE[kind])).all()


def test_rounding_of_float32_is_no_direction():
    """Three all but equal rows of float32: their products have an eigenvalue below 0, and rank 1."""
    gramian = torch.ones(3, 3, dtype=torch.float64) + torch.diag(torch.full((3,), -2e-7, dtype=torch.float64))
    method = IMTLG()
    weights = method(gramian, torch.ones(3))
    assert method.diagnostics["rank"] == 1
    assert method.diagnostics["rank_deficient_total"] == 1
    assert weights.tolist() == pytest.approx([weights[0].item()] * 3)
    assert 0 < weights[0] < 2
