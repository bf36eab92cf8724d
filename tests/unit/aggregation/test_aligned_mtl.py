"""Aligned-MTL: condition number 1 of the aligned gradients, their scale, and a rank that is too low."""

import pytest
import torch

from mtl.aggregation import AlignedMTL
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, weigh


def polar(rows, scale="min"):
    """The paper's Procrustes problem by an SVD of the gradients: sigma U V^T, the sum of its rows."""
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    square = values**2
    sigma = {"min": square[-1], "median": square.median(), "rmse": square.mean()}[scale].sqrt()
    aligned = sigma * left @ right
    return aligned, sigma


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_the_sum_of_rows_with_condition_number_one(seed, scale):
    rows = jacobian(2 + seed % 9, 15, seed, shift=0.2, scale=seed % 2)
    aligned, sigma = polar(rows, scale)
    torch.testing.assert_close(torch.linalg.svdvals(aligned), sigma.expand(len(rows)))  # condition number 1
    method = AlignedMTL(scale=scale)
    d = rows.T @ weigh(method, rows)
    torch.testing.assert_close(d, aligned.sum(0), rtol=1e-8, atol=1e-10 * sigma.item())
    assert d.norm().item() == pytest.approx(sigma.item() * len(rows) ** 0.5, rel=1e-8)
    values = torch.linalg.svdvals(rows)
    assert method.diagnostics["condition_number"] == pytest.approx((values[0] / values[-1]).item(), rel=1e-6)
    assert method.diagnostics["rank_deficient_total"] == 0


def test_never_conflicts():
    """Row k of the aligned matrix is nearest to g_k; the sum of orthogonal rows agrees with each of them."""
    rows = jacobian(5, 12, 3, shift=-0.3)
    aligned, sigma = polar(rows)
    torch.testing.assert_close(aligned @ (rows.T @ weigh(AlignedMTL(), rows)), (sigma**2).expand(5))


def test_mean_is_the_sum_over_m():
    rows = jacobian(4, 9)
    torch.testing.assert_close(weigh(AlignedMTL(reduce="mean"), rows) * 4, weigh(AlignedMTL(), rows))


def test_duplicates_lower_the_rank():
    rows = DEGENERATE["duplicates"]
    method = AlignedMTL()
    weights = weigh(method, rows)
    assert weights[0].item() == pytest.approx(weights[1].item())
    assert method.diagnostics["rank"] == 2
    assert method.diagnostics["rank_deficient_total"] == 1
    assert method.diagnostics["condition_number"] < 10


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_degenerate(kind, scale):
    weights = weigh(AlignedMTL(scale=scale), DEGENERATE[kind])
    assert torch.isfinite(weights).all()
    if kind == "zeros":
        assert weights.tolist() == [0, 0, 0]
    if kind == "one":
        assert weights.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("options", [{"scale": "max"}, {"reduce": "max"}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        AlignedMTL(**options)


def test_rounding_of_float32_is_no_direction():
    """Three all but equal rows of float32: their products have an eigenvalue below 0, and rank 1."""
    gramian = torch.ones(3, 3, dtype=torch.float64) + torch.diag(torch.full((3,), -2e-7, dtype=torch.float64))
    method = AlignedMTL()
    weights = method(gramian, torch.ones(3))
    assert method.diagnostics["rank"] == 1
    assert method.diagnostics["rank_deficient_total"] == 1
    assert weights.tolist() == pytest.approx([weights[0].item()] * 3)
    assert 0 < weights[0] < 2
