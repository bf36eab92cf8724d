"""Projection onto the dual cone, on its own."""

import pytest
import torch
from scipy.optimize import nnls

from mtl.aggregation.solvers import dual_cone
from mtl.aggregation.solvers.dual_cone import project_to_dual_cone
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian


def check_kkt(rows, vectors, weights, tolerance=1e-8):
    """y >= 0, J d >= 0, y . J d = 0, relative to the lengths."""
    norms = rows.norm(dim=1)
    lengths = ((vectors * norms).abs().sum(1, keepdim=True)).clamp_min(1e-300)
    live = norms > 0
    if not live.any():
        assert torch.equal(vectors, weights)
        return
    added = (weights - vectors)[:, live] * norms[live] / lengths
    slack = (weights @ rows @ rows.T)[:, live] / norms[live] / lengths
    assert added.min() >= -1e-12
    assert slack.min() >= -tolerance
    assert (added * slack).abs().max() <= tolerance * (1 + added.abs().sum(1).max())


@pytest.mark.parametrize("seed", range(30))
def test_kkt_and_scipy(seed):
    m = 2 + seed % 11
    rows = jacobian(m, (20, 6, 3)[seed % 3], seed, scale=seed % 4)
    vectors = torch.cat([torch.eye(m, dtype=torch.float64), torch.full((1, m), 1 / m, dtype=torch.float64)])
    solution = project_to_dual_cone(rows @ rows.T, vectors)
    assert solution.converged
    check_kkt(rows, vectors, solution.weights)
    unit = rows / rows.norm(dim=1, keepdim=True)
    for start, weights in zip(vectors, solution.weights, strict=True):
        point = start @ rows / (start @ rows).norm()
        added = torch.from_numpy(nnls(unit.T.numpy(), -point.numpy(), maxiter=10_000)[0])
        torch.testing.assert_close(weights @ rows / (start @ rows).norm(), point + added @ unit, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    rows = DEGENERATE[kind]
    vectors = torch.eye(len(rows), dtype=torch.float64)
    solution = project_to_dual_cone(rows @ rows.T, vectors)
    assert solution.converged
    check_kkt(rows, vectors, solution.weights, 1e-6)


def test_exchanging_one_at_a_time_ends_as_well(monkeypatch):
    rows = jacobian(8, 5, 1)
    vectors = torch.eye(8, dtype=torch.float64)
    usual = project_to_dual_cone(rows @ rows.T, vectors)
    monkeypatch.setattr(dual_cone, "PATIENCE", -1)
    slow = project_to_dual_cone(rows @ rows.T, vectors)
    torch.testing.assert_close(slow.weights @ rows, usual.weights @ rows, rtol=1e-7, atol=1e-9)


def test_the_limit_is_reported():
    rows = jacobian(12, 6, 0)
    assert not project_to_dual_cone(rows @ rows.T, torch.eye(12, dtype=torch.float64), max_iter=1).converged
