"""The projection onto the simplex against its KKT conditions and a search for the threshold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.aggregation.solvers.simplex import project_to_simplex

POINTS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


def by_bisection(point):
    """max(y - t, 0) sums to 1 for one t only; the sum falls with t."""
    low, high = point.min().item() - 1, point.max().item()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (point - middle).clamp_min(0).sum() > 1 else (low, middle)
    return (point - low).clamp_min(0)


@settings(max_examples=200, deadline=None)
@given(POINTS)
def test_kkt_and_bisection(values):
    point = torch.tensor(values, dtype=torch.float64)
    found = project_to_simplex(point)
    assert (found >= 0).all()
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
    multiplier = point - found  # equal where the projection is positive, no larger elsewhere
    kept = found > 1e-9
    top = multiplier[kept].max().item()
    assert multiplier[kept].min().item() == pytest.approx(top, abs=1e-8)
    assert (multiplier <= top + 1e-8).all()
    torch.testing.assert_close(found, by_bisection(point), rtol=0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(POINTS, st.floats(-1e6, 1e6))
def test_a_shift_changes_nothing_and_the_projection_is_its_own(values, shift):
    point = torch.tensor(values, dtype=torch.float64)
    found = project_to_simplex(point)
    torch.testing.assert_close(project_to_simplex(point + shift), found, rtol=0, atol=1e-8)
    torch.testing.assert_close(project_to_simplex(found), found, rtol=0, atol=1e-12)


def test_nearest_of_many():
    """No other point of the simplex is nearer."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        point = torch.randn(5, dtype=torch.float64, generator=generator)
        distance = (point - project_to_simplex(point)).norm()
        others = -torch.rand(2000, 5, dtype=torch.float64, generator=generator).log()
        others = others / others.sum(dim=1, keepdim=True)
        assert distance <= (point - others).norm(dim=1).min() + 1e-12


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([0.7, 0.1, 0.0], [0.7 + 0.2 / 3, 0.1 + 0.2 / 3, 0.2 / 3]),  # short of 1 by 0.2
        ([2.0, 0.5, -1.0], [1.0, 0.0, 0.0]),
        ([1e15, -1e15], [1.0, 0.0]),
        ([-1e300, -1e300], [0.5, 0.5]),
        ([5.0], [1.0]),
    ],
)
def test_by_hand(point, expected):
    found = project_to_simplex(torch.tensor(point, dtype=torch.float64))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
