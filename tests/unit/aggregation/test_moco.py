"""MoCo: tracked gradients and their weights, against plain loops."""

import math

import pytest
import torch

from mtl.aggregation import MGDA, Constant, MoCo
from mtl.aggregation.solvers.min_norm import project_to_simplex
from mtl.errors import ConfigError, NonFiniteError
from mtl.strategies import GradientStrategy
from tests.problems import build_strategy, distance, make_batches, make_objective, parameters_of, sgd, train
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian
from tests.unit.aggregation.rows import directions, ready

LOSSES = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)


def literal(sequence, beta, beta_sigma, gamma, gamma_sigma, rho, projection, normalization):
    m, n = sequence[0].shape
    y, lam, found = [[0.0] * n for _ in range(m)], [1 / m] * m, []
    for t, rows in enumerate(sequence, start=1):
        for k, g in enumerate(rows.tolist()):
            if normalization == "incoming":
                g = [x / math.hypot(*g) * LOSSES[k].item() for x in g]
            y[k] = [a - beta / t**beta_sigma * (a - b) for a, b in zip(y[k], g, strict=True)]
        divide = [1.0] * m
        if "l" in normalization:
            divide = [
                (LOSSES[k].item() if "loss" in normalization else 1.0)
                * (math.hypot(*y[k]) if normalization in ("l2", "loss+") else 1.0)
                for k in range(m)
            ]
        z = [[a / divide[k] for a in y[k]] for k in range(m)]
        d = [sum(lam[k] * z[k][j] for k in range(m)) for j in range(n)]
        step = gamma / t**gamma_sigma
        point = [lam[k] - step * (sum(a * b for a, b in zip(z[k], d, strict=True)) + rho * lam[k]) for k in range(m)]
        point = torch.tensor(point, dtype=torch.float64)
        lam = (project_to_simplex(point) if projection == "simplex" else torch.softmax(point, 0)).tolist()
        found.append(torch.tensor([sum(lam[k] * z[k][j] for k in range(m)) for j in range(n)], dtype=torch.float64))
    return found


CASES = [
    (0.1, 0.0, 0.1, 0.0, 0.1, "simplex", "none"),
    (0.5, 0.5, 0.1, 0.5, 0.0, "softmax", "incoming"),
    (0.3, 0.2, 0.4, 0.1, 0.5, "simplex", "l2"),
    (0.3, 0.2, 0.4, 0.1, 0.5, "simplex", "loss"),
    (0.3, 0.2, 0.4, 0.1, 0.5, "softmax", "loss+"),
]


@pytest.mark.parametrize("options", CASES)
def test_the_literal_definition(options):
    sequence = [jacobian(3, 7, seed) for seed in range(5)]
    found = directions(ready(MoCo(*options), sequence[0]), sequence, losses=LOSSES)
    for mine, expected in zip(found, literal(sequence, *options), strict=True):
        torch.testing.assert_close(mine, expected)


def test_without_tracking_and_steps_it_is_the_mean():
    batches, results = make_batches(), []
    for method in (MoCo(beta=1.0, gamma=0.0), Constant(1 / 3)):
        objective = make_objective()
        train(GradientStrategy(method), objective, batches, sgd)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_on_constant_gradients_it_ends_at_the_min_norm_vector():
    rows = jacobian(3, 6, seed=4)
    expected = MGDA()(rows @ rows.T, LOSSES) @ rows
    found = directions(ready(MoCo(beta=0.5, gamma=0.05, rho=0.0), rows), [rows] * 800)
    torch.testing.assert_close(found[-1], expected, rtol=1e-5, atol=1e-7)


def test_it_is_not_cagrad():
    """LibMTL's issue 56: results of the two identical epoch by epoch."""
    results = []
    for name in ("cagrad", "moco"):
        objective = make_objective()
        train(build_strategy(name), objective, make_batches(), sgd)
        results.append(parameters_of(objective))
    assert distance(*results) > 1e-3


@pytest.mark.parametrize("name", [key for key in DEGENERATE if key != "float32"])
@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+", "incoming"])
def test_degenerate_rows(name, normalization):
    rows = DEGENERATE[name]
    method = ready(MoCo(normalization=normalization), rows)
    for found in directions(method, [rows] * 3):
        assert torch.isfinite(found).all()
    assert method.weights.sum().item() == pytest.approx(1)
    assert sum(method.diagnostics.values()) == pytest.approx(1)


def test_a_state_continues():
    sequence = [jacobian(3, 7, seed) for seed in range(6)]
    first = ready(MoCo(beta_sigma=0.5), sequence[0])
    directions(first, sequence[:3])
    second = ready(MoCo(beta_sigma=0.5), sequence[0])
    second.load_state_dict(first.state_dict())
    for mine, expected in zip(directions(second, sequence[3:]), directions(first, sequence[3:]), strict=True):
        assert torch.equal(mine, expected)


def test_options_are_checked():
    for options in ({"beta": 1.5}, {"gamma": -1.0}, {"rho": -0.1}, {"projection": "l2"}, {"normalization": "max"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            MoCo(**options)
    with pytest.raises(NonFiniteError, match="have to be > 0"):
        directions(ready(MoCo(normalization="loss"), jacobian(3, 4)), [jacobian(3, 4)], losses=LOSSES - 1)
    for override in ("strategy.level=features", "strategy.head_gradients=weighted", "strategy.weights_every=2"):
        with pytest.raises(ConfigError):
            build_strategy("moco", override)
