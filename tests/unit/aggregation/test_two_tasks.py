"""Closed forms for two tasks against the solvers for any number of tasks, which know nothing of them."""

import itertools
import math

import pytest
import torch

from mtl.aggregation import AlignedMTL, CAGrad, DualProj, NashMTL, UPGrad
from mtl.aggregation.solvers import bargaining, conflict_averse, dual_cone, two_tasks

COSINES = (-0.99999, -0.99, -0.5, -1e-3, 0.0, 1e-9, 0.3, 0.9, 0.99999)
RATIOS = (1e-6, 1e-3, 0.2, 1.0, 3.0, 1e4)
CASES = list(itertools.product(COSINES, RATIOS))
EDGES = {
    "zero gradient": (0.0, 1.0, 0.0),
    "both zero": (0.0, 0.0, 0.0),
    "equal": (1.0, 1.0, 1.0),
    "parallel": (1.0, 4.0, 2.0),
    "opposite": (1.0, 1.0, -1.0),
    "nearly opposite": (1.0, 1.0, -1 + 1e-9),
}


def gramian(cosine: float, ratio: float, size: float = 7.0) -> torch.Tensor:
    """Of gradients of lengths `size` and `ratio * size`."""
    product = cosine * ratio * size * size
    return torch.tensor([[size**2, product], [product, (ratio * size) ** 2]], dtype=torch.float64)


def entries(aa: float, bb: float, ab: float) -> torch.Tensor:
    return torch.tensor([[aa, ab], [ab, bb]], dtype=torch.float64)


def assert_same_update(g: torch.Tensor, found: torch.Tensor, expected: torch.Tensor, tol: float = 1e-9) -> None:
    """The same J^T w, whose squared length is w^T G w, relative to the longer of its parts."""
    norms = g.diagonal().sqrt()
    scale = max((expected.abs() * norms).max().item(), 1e-300)
    assert ((found - expected).abs() * norms).max().item() <= tol * scale


@pytest.mark.parametrize(("cosine", "ratio"), CASES)
def test_bargain(cosine: float, ratio: float) -> None:
    g = gramian(cosine, ratio)
    found = two_tasks.bargain(g)
    assert found is not None
    assert found[1] == 0
    weights = torch.tensor(found[0], dtype=torch.float64)
    assert_same_update(g, weights, bargaining._any_number(g, 1.0, 1e-6, 200).weights)
    assert (weights * (g @ weights) - 1).abs().max() < 1e-9


@pytest.mark.parametrize("c", [1e-3, 0.1, 0.4, 0.5, 0.9, 1.0, 2.0])
@pytest.mark.parametrize(("cosine", "ratio"), CASES)
def test_conflict_averse(cosine: float, ratio: float, c: float) -> None:
    g = gramian(cosine, ratio)
    found = two_tasks.conflict_averse(g, c)
    if found is None:  # the average gradient all but vanishes
        assert ratio == 1
        assert cosine < -0.9999
        return
    assert found[2] <= 1e-9
    expected = conflict_averse._any_number(g, c, 1e-9, 1000)
    if not expected.stationary:
        extra = torch.tensor(found[0], dtype=torch.float64)
        tol = 1e-6 if abs(cosine) > 0.9999 else 1e-8
        assert_same_update(g, extra + 0.5, expected.extra + 0.5, tol)


@pytest.mark.parametrize("c", [0.4, 0.9])
@pytest.mark.parametrize(("cosine", "ratio"), CASES)
def test_conflict_averse_is_the_best_of_a_fine_grid(cosine: float, ratio: float, c: float) -> None:
    """Primal: no direction in the ball serves the worse-off task better. Directions lie in the plane of the two."""
    g = gramian(cosine, ratio)
    if two_tasks.conflict_averse(g, c) is None:
        return
    (extra, _, _) = two_tasks.conflict_averse(g, c)
    rows = torch.linalg.cholesky(g)
    mean = rows.mean(0)
    best = (rows @ (mean + rows.T @ torch.tensor(extra, dtype=torch.float64))).min()
    angles = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)
    others = mean + c * mean.norm() * torch.stack([angles.cos(), angles.sin()], 1)
    assert best >= (others @ rows.T).min(1).values.max() - 1e-9 * rows.norm(dim=1).max() * mean.norm()


@pytest.mark.parametrize(("cosine", "ratio"), CASES)
def test_project(cosine: float, ratio: float) -> None:
    g = gramian(cosine, ratio)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(20, 2, dtype=torch.float64, generator=generator) / g.diagonal().sqrt()
    vectors = torch.cat([torch.eye(2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64), drawn])
    found = two_tasks.project(g, vectors.tolist())
    assert found is not None
    assert found[2] <= 1e-9
    expected = dual_cone._any_number(g, vectors, 1e-9, 1000)
    for own, other in zip(torch.tensor(found[0], dtype=torch.float64), expected.weights, strict=True):
        norms = g.diagonal().sqrt()
        start = 1e-9 + 1e-9 / (1 - abs(cosine))  # both are off by rounding, and by the raised diagonal of the solver
        assert ((own - other).abs() * norms).max() <= start * max(
            (other.abs() * norms).max().item(), norms.max() * 1e-9, 1
        )


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize(("cosine", "ratio"), [case for case in CASES if 0.1 < case[1] < 10])
def test_aligned(cosine: float, ratio: float, scale: str, reduce: str) -> None:
    """Against the singular value decomposition of rows with this Gramian."""
    g = gramian(cosine, ratio)
    rows = torch.linalg.cholesky(g)
    left, values, right = torch.linalg.svd(rows)
    sigma = {"min": values.min(), "median": values.min(), "rmse": values.square().mean().sqrt()}[scale]
    expected = sigma * (left @ right).sum(0) / (1 if reduce == "sum" else 2)
    method = AlignedMTL(scale=scale, reduce=reduce)
    found = method(g, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(rows.T @ found, expected, rtol=1e-6, atol=1e-6 * values.max().item())
    assert method.diagnostics["condition_number"] == pytest.approx((values[0] / values[-1]).item(), rel=1e-6)
    assert method.diagnostics["rank"] == 2
    assert (two_tasks.align(g) is None) == (abs(cosine) > 0.9999 and ratio == 0.2)


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e30, 1e78, 1e140])
def test_scale_changes_nothing(size: float) -> None:
    small, large = gramian(0.3, 3.0, 1.0), gramian(0.3, 3.0, size)
    eye = torch.eye(2).tolist()
    aligned, other = two_tasks.align(large), two_tasks.align(small)
    assert [value * size for value in aligned.sums] == pytest.approx(other.sums, rel=1e-9)
    assert [value / size / size for value in aligned.values] == pytest.approx(other.values, rel=1e-9)
    assert [a * size for a in two_tasks.bargain(large)[0]] == pytest.approx(two_tasks.bargain(small)[0], rel=1e-9)
    assert two_tasks.conflict_averse(large, 0.4)[0] == pytest.approx(two_tasks.conflict_averse(small, 0.4)[0], rel=1e-9)
    large, small = gramian(-0.3, 3.0, size), gramian(-0.3, 3.0, 1.0)
    for one, two in zip(two_tasks.project(large, eye)[0], two_tasks.project(small, eye)[0], strict=True):
        assert one == pytest.approx(two, rel=1e-9)


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_left_to_the_solvers(name: str) -> None:
    g = entries(*EDGES[name])
    assert two_tasks.bargain(g) is None
    assert two_tasks.conflict_averse(g, 0.4) is None
    assert two_tasks.project(g, [[1.0, 0.0]]) is None
    assert two_tasks.align(g) is None


@pytest.mark.parametrize(
    "method", [NashMTL(), CAGrad(), UPGrad(), DualProj(), AlignedMTL()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("name", EDGES)
def test_edges_are_answered(name: str, method: torch.nn.Module) -> None:
    assert torch.isfinite(method(entries(*EDGES[name]), torch.ones(2, dtype=torch.float64))).all()
