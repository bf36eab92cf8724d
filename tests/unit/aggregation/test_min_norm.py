"""The min-norm solvers against an oracle on the Jacobian (never on the Gramian), and against their own certificate."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from mtl.aggregation.solvers import active_set, duality_gap, frank_wolfe, projected_gradient
from mtl.aggregation.solvers.min_norm import best_pair, project_to_simplex
from tests.unit.aggregation.jacobians import random_jacobian

EPS = torch.finfo(torch.float64).eps
SOLVERS = [active_set, frank_wolfe, projected_gradient]


def oracle(jacobian: torch.Tensor) -> tuple[float, float]:
    """(min ||J^T w||^2 over the simplex, sum_k w_k |g_k| there), by non-negative least squares.

    min over u >= 0 of ||J^T u||^2 + c^2 (1^T u - 1)^2 has its solution on the ray of the min-norm weights, for every
    c > 0: for u = t w the best t leaves q c^2 / (q + c^2), increasing in q. Columns are scaled to norm 1.
    """
    rows = jacobian.numpy()
    norms = np.linalg.norm(rows, axis=1)
    if (norms == 0).any():
        return 0.0, 0.0
    system = np.vstack([(rows / norms[:, None]).T, norms.min() / norms])
    right = np.zeros(len(system))
    right[-1] = 1.0
    weights = nnls(system, right, maxiter=10_000)[0] * norms.min() / norms
    weights /= weights.sum()
    return float(np.linalg.norm(rows.T @ weights) ** 2), float(weights @ norms)


def by_supports(jacobian: torch.Tensor) -> float:
    """The minimum by trying every support: a second oracle, for m <= 8."""
    best = np.inf
    rows = jacobian.numpy()
    for size in range(1, len(rows) + 1):
        for support in itertools.combinations(range(len(rows)), size):
            # minimise over the affine hull: first row plus a combination of differences
            base, rest = rows[support[0]], rows[list(support[1:])] - rows[support[0]]
            free = np.linalg.lstsq(rest.T, -base, rcond=None)[0] if size > 1 else np.empty(0)
            weights = np.concatenate([[1 - free.sum()], free])
            if (weights >= -1e-12).all():
                best = min(best, float(np.linalg.norm(rows[list(support)].T @ weights) ** 2))
    return best


@pytest.mark.parametrize("case", range(200))
def test_active_set_finds_the_minimum(case):
    """Relative 1e-6 of the squared norm, plus what a float64 Gramian leaves open: m eps (sum_k w_k |g_k|)^2."""
    jacobian = random_jacobian(case)
    m = len(jacobian)
    gramian = jacobian @ jacobian.T
    solution = active_set(gramian)
    weights = solution.weights
    assert solution.converged
    assert 0 <= solution.gap <= 1e-12
    assert solution.iterations <= 2 * m
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    expected, length = oracle(jacobian)
    length = max(length, (weights @ jacobian.norm(dim=1)).item())
    found = (jacobian.T @ weights).norm().item() ** 2
    assert found == pytest.approx(expected, rel=1e-6, abs=16 * m * EPS * length**2)


@pytest.mark.parametrize("case", range(40))
def test_both_oracles_agree(case):
    rng = np.random.default_rng(case)
    m = int(rng.integers(2, 9))
    jacobian = torch.tensor(rng.standard_normal((m, 6)) + rng.uniform(0, 2)) * (10.0 if case % 2 else 1.0)
    expected = by_supports(jacobian)
    assert oracle(jacobian)[0] == pytest.approx(expected, rel=1e-9, abs=1e-13)
    solution = active_set(jacobian @ jacobian.T)
    assert (jacobian.T @ solution.weights).norm().item() ** 2 == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_scales_twelve_orders_apart_lose_no_accuracy():
    """Orthogonal rows of norm 1e-6, 1 and 1e6: w ~ 1 / |g|^2, the small weights to full relative accuracy."""
    squares = torch.tensor([1e-12, 1.0, 1e12], dtype=torch.float64)
    weights = active_set(torch.diag(squares)).weights
    expected = (1 / squares) / (1 / squares).sum()
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0)


def test_a_small_row_against_a_large_one():
    """a = (1e-6, 0), b = 1e6 (-1, 1) / sqrt 2: the closed form of two tasks, where tolerances on max |g|^2 give up."""
    jacobian = torch.tensor([[1e-6, 0.0], [-1e6 / 2**0.5, 1e6 / 2**0.5]], dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    weights = active_set(gramian).weights
    (aa, ab), (_, bb) = gramian.tolist()
    expected = torch.tensor([(bb - ab) / (aa + bb - 2 * ab), (aa - ab) / (aa + bb - 2 * ab)], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=0)
    assert (jacobian.T @ weights).norm().item() ** 2 == pytest.approx(0.5e-12, rel=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_scaling_all_rows_changes_nothing(solver):
    jacobian = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    gramian = jacobian @ jacobian.T
    for factor in (1e-12, 1e12):
        torch.testing.assert_close(solver(factor * gramian).weights, solver(gramian).weights, rtol=1e-6, atol=1e-8)


def test_duality_gap_is_a_bound():
    """For any weights: the squared norm exceeds the minimum by at most 2 gap times itself."""
    generator = torch.Generator().manual_seed(1)
    for case in range(50):
        jacobian = torch.randn(5, 7, dtype=torch.float64, generator=generator) + 0.5 * (case % 3)
        gramian = jacobian @ jacobian.T
        weights = torch.rand(5, dtype=torch.float64, generator=generator)
        weights /= weights.sum()
        square = (weights @ gramian @ weights).item()
        product = gramian @ weights
        gap = duality_gap(gramian, weights)
        assert gap == pytest.approx((square - product.min().item()) / square, rel=1e-9)
        assert square - oracle(jacobian)[0] <= 2 * gap * square * (1 + 1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_zero_gramian(solver, m):
    solution = solver(torch.zeros(m, m, dtype=torch.float64))
    assert solution.converged
    assert solution.gap == 0
    assert (solution.weights >= 0).all()
    assert solution.weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_task(solver):
    solution = solver(torch.tensor([[7.0]], dtype=torch.float64))
    assert solution.weights.tolist() == [1.0]
    assert solution.converged
    assert solution.gap == 0


def test_zero_rows_share_all_the_weight():
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    assert active_set(jacobian @ jacobian.T).weights.tolist() == [0.0, 0.5, 0.0, 0.5]


def two(a, b):
    jacobian = torch.tensor([a, b], dtype=torch.float64)
    return jacobian @ jacobian.T


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 0.0], [2.0, 1.0], 1.0),  # a.b >= a.a: end point a
        ([2.0, 1.0], [1.0, 0.0], 0.0),  # a.b >= b.b: end point b
        ([1.0, 0.0], [1.0, 1.0], 1.0),  # equality: still a
        ([3.0, 0.0], [0.0, 1.0], 0.1),  # orthogonal: |b|^2 / (|a|^2 + |b|^2)
        ([1.0, 0.0], [-3.0, 0.0], 0.75),  # opposite: d = 0
        ([0.0, 0.0], [1.0, 2.0], 1.0),  # zero row
    ],
)
def test_two_tasks_at_the_ends_and_inside(solver, a, b, expected):
    solution = solver(two(a, b))
    assert solution.converged
    assert solution.weights.tolist() == pytest.approx([expected, 1 - expected], abs=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_tasks_match_a_scan(solver):
    """Property 1: a brute-force scan over gamma; inside, a.d = b.d = d.d."""
    generator = torch.Generator().manual_seed(2)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    inside = 0
    for _ in range(40):
        jacobian = torch.randn(2, 3, dtype=torch.float64, generator=generator)
        gramian = jacobian @ jacobian.T
        keep = solver(gramian).weights[0].item()
        values = (grid[:, None] * jacobian[0] + (1 - grid)[:, None] * jacobian[1]).square().sum(1)
        assert keep == pytest.approx(grid[values.argmin()].item(), abs=1e-4)
        if 0 < keep < 1:
            inside += 1
            direction = keep * jacobian[0] + (1 - keep) * jacobian[1]
            products = torch.stack([jacobian[0] @ direction, jacobian[1] @ direction])
            torch.testing.assert_close(products, (direction @ direction).expand(2), rtol=1e-8, atol=1e-12)
    assert 5 < inside < 40


def test_frank_wolfe_never_increases_the_norm():
    """Property 3, iterate by iterate."""
    generator = torch.Generator().manual_seed(3)
    for init in ("uniform", "best_pair"):
        jacobian = torch.randn(6, 8, dtype=torch.float64, generator=generator) + 0.3
        gramian = jacobian @ jacobian.T
        start = torch.full((6,), 1 / 6, dtype=torch.float64) if init == "uniform" else best_pair(gramian)
        last = (start @ gramian @ start).item()
        for limit in range(1, 60):
            weights = frank_wolfe(gramian, max_iter=limit, init=init).weights
            square = (weights @ gramian @ weights).item()
            assert square <= last * (1 + 1e-14)
            last = square


@pytest.mark.parametrize("init", ["uniform", "best_pair"])
@pytest.mark.parametrize(("solver", "tol"), [(frank_wolfe, 1e-3), (projected_gradient, 1e-5)])
def test_iterative_solvers_agree_with_the_exact_one(solver, tol, init):
    """Frank-Wolfe is sublinear when the answer is on the boundary; projected gradient can stall a little above."""
    generator = torch.Generator().manual_seed(4)
    for m in range(2, 9):
        jacobian = torch.randn(m, 20, dtype=torch.float64, generator=generator) + 0.5
        gramian = jacobian @ jacobian.T
        solution = solver(gramian, tol=tol, max_iter=5000, init=init)
        exact = active_set(gramian).weights
        minimum = (exact @ gramian @ exact).item()
        assert solution.converged
        found = (solution.weights @ gramian @ solution.weights).item()
        assert minimum * (1 - 1e-12) <= found <= minimum * 1.02
        if solver is frank_wolfe:
            assert found - minimum <= (2 * solution.gap + 1e-12) * found


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_limit_acts(solver):
    """Five tasks are to be added to those that `active_set` begins with."""
    generator = torch.Generator().manual_seed(16)
    jacobian = torch.randn(20, 12, dtype=torch.float64, generator=generator)
    jacobian += torch.randn(1, 12, dtype=torch.float64, generator=generator)
    gramian = jacobian @ jacobian.T
    solution = solver(gramian, tol=1e-12, max_iter=2)
    assert not solution.converged
    assert solution.iterations == 2
    assert solution.gap > 1e-3
    assert (solution.weights >= 0).all()
    assert solution.weights.sum().item() == pytest.approx(1)
    assert solver(gramian, tol=1e-2, max_iter=5000).converged


@pytest.mark.parametrize("solver", SOLVERS)
def test_large_norms(solver):
    """|g|^2 > 1e8 made the released solver crash."""
    jacobian = 1e9 * torch.eye(3, dtype=torch.float64)
    weights = solver(jacobian @ jacobian.T).weights
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_float32_gramians_stop_too():
    """Rounded to float32, near-duplicate rows are not positive semi-definite: the answer is finite and not worse."""
    generator = torch.Generator().manual_seed(6)
    for _ in range(40):
        jacobian = torch.randn(8, 5, generator=generator)
        jacobian[1:4] = jacobian[0] * (1 + 1e-7 * torch.randn(3, 5, generator=generator))
        jacobian[5] = -jacobian[4]
        gramian = (jacobian @ jacobian.T).double()
        solution = active_set((gramian + gramian.T) / 2)
        direction = jacobian.double().T @ solution.weights
        assert solution.weights.sum().item() == pytest.approx(1)
        assert (solution.weights >= 0).all()
        assert direction.norm() < 3e-3 * jacobian.norm(dim=1).min()  # the minimum is 0


def test_not_positive_semi_definite_ends_with_finite_weights():
    for seed in range(30):
        gramian = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gramian = gramian + gramian.T
        gramian.diagonal().abs_()
        weights = active_set(gramian).weights
        assert torch.isfinite(weights).all()
        assert weights.sum().item() == pytest.approx(1)


def test_best_pair():
    jacobian = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    weights = best_pair(jacobian @ jacobian.T)
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 0.0, 2 / 3], dtype=torch.float64))
    clipped = best_pair(torch.tensor([[1.0, 1.0], [1.0, 5.0]], dtype=torch.float64), endpoint_clip=0.001)
    assert clipped.tolist() == pytest.approx([0.999, 0.001])


def test_projection_onto_the_simplex():
    generator = torch.Generator().manual_seed(7)
    for _ in range(30):
        point = 2 * torch.randn(5, dtype=torch.float64, generator=generator)
        projected = project_to_simplex(point)
        assert projected.sum().item() == pytest.approx(1)
        assert (projected >= 0).all()
        # variational inequality: (point - projected) . (vertex - projected) <= 0
        residual = point - projected
        assert (residual - residual @ projected).max() <= 1e-12
    inside = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    torch.testing.assert_close(project_to_simplex(inside), inside)
    far = torch.tensor([1e18, 1e18, 0.0], dtype=torch.float64)  # 1 is lost next to 1e18
    assert project_to_simplex(far).tolist() == [0.5, 0.5, 0.0]
