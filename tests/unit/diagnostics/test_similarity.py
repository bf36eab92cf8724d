"""Each definition against one written out over vectors, by other means."""

import math

import numpy as np
import pytest
import torch

from mtl.diagnostics.similarity import angle, condition_number, conflict_rate, cosines, magnitude_similarity, norms


@pytest.fixture(params=[(1, 5), (2, 7), (5, 40), (40, 100)])
def rows(request):
    return torch.randn(request.param, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_against_vectors(rows):
    gramian = rows @ rows.T
    lengths = [math.sqrt(math.fsum(x * x for x in row)) for row in rows.tolist()]
    assert norms(gramian).tolist() == pytest.approx(lengths)
    for i, first in enumerate(rows.tolist()):
        for j, second in enumerate(rows.tolist()):
            dot = math.fsum(x * y for x, y in zip(first, second, strict=True))
            assert float(cosines(gramian)[i, j]) == pytest.approx(dot / lengths[i] / lengths[j], abs=1e-12)
            expected = 2 * lengths[i] * lengths[j] / (lengths[i] ** 2 + lengths[j] ** 2)
            assert float(magnitude_similarity(gramian)[i, j]) == pytest.approx(expected)


def test_conflicts_are_counted_over_pairs(rows):
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    found = conflict_rate(cosines(rows @ rows.T))
    if not pairs:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(sum(float(rows[i] @ rows[j]) < 0 for i, j in pairs) / len(pairs))


def test_condition_number_is_that_of_the_jacobian(rows):
    assert condition_number(rows @ rows.T, 1e-16) == pytest.approx(np.linalg.cond(rows.numpy()))


def test_parallel_gradients_have_no_finite_condition():
    rows = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    assert condition_number(rows @ rows.T, 1e-7) == math.inf


def test_zero_gradients_leave_the_other_pairs():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found = cosines(rows @ rows.T)
    assert found[0].isnan().all()
    assert found[:, 0].isnan().all()
    assert float(found[1, 2]) == pytest.approx(-math.sqrt(0.5))
    assert conflict_rate(found) == 1.0
    similar = magnitude_similarity(rows @ rows.T)
    assert float(similar[0, 1]) == 0
    assert similar[0, 3].isnan()
    assert condition_number(rows @ rows.T, 1e-7) == math.inf
    assert math.isnan(condition_number(torch.zeros(2, 2, dtype=torch.float64), 1e-7))


def test_a_gramian_that_is_not_finite_gives_no_number():
    gramian = torch.tensor([[math.nan, math.nan], [math.nan, 1.0]], dtype=torch.float64)
    assert math.isnan(condition_number(gramian, 1e-7))
    assert math.isnan(conflict_rate(cosines(gramian)))


@pytest.mark.parametrize("degrees", [0, 1e-4, 30, 90, 150, 179.9999, 180])
def test_angle(degrees):
    one = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    other = torch.tensor([math.cos(math.radians(degrees)), 0.0, math.sin(math.radians(degrees))], dtype=torch.float64)
    assert angle(one, 0.1 * other) == pytest.approx(degrees, rel=1e-9, abs=1e-9)


def test_angle_to_nothing():
    assert math.isnan(angle(torch.zeros(3), torch.ones(3)))


def test_angle_does_not_depend_on_pieces(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1000, generator=generator)
    whole = angle(one, other)
    monkeypatch.setattr("mtl.diagnostics.similarity.PIECE", 7)
    assert angle(one, other) == pytest.approx(whole)
    cosine = np.dot(one.double().numpy(), other.double().numpy()) / one.double().norm() / other.double().norm()
    assert whole == pytest.approx(math.degrees(math.acos(cosine)))
