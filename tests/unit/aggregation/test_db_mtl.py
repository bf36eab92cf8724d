"""DB-MTL: averaged gradients of log losses, all as long as the longest."""

import math

import pytest
import torch

from mtl.aggregation import DBMTL
from mtl.errors import ConfigError, NonFiniteError
from mtl.strategies import GradientStrategy
from mtl.weighting import SI
from tests.problems import build_strategy, distance, make_batches, make_objective, make_spec, parameters_of, sgd, train
from tests.toys import point_batch, point_objective
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian
from tests.unit.aggregation.rows import directions, ready


def literal(sequence, beta, sigma):
    m, n = sequence[0].shape
    average, found = [[0.0] * n for _ in range(m)], []
    for t, rows in enumerate(sequence, start=1):
        b = beta / t**sigma
        average = [[b * a + (1 - b) * g for a, g in zip(average[k], rows[k].tolist(), strict=True)] for k in range(m)]
        norms = [math.hypot(*row) for row in average]
        d = [sum(max(norms) / norms[k] * average[k][j] for k in range(m)) for j in range(n)]
        found.append(torch.tensor(d, dtype=torch.float64))
    return found


@pytest.mark.parametrize(("beta", "sigma"), [(0.9, 0.0), (0.9, 0.5), (0.0, 0.0)])
def test_the_literal_definition(beta, sigma):
    sequence = [jacobian(3, 7, seed, scale=1.0) for seed in range(5)]
    found = directions(ready(DBMTL(beta, sigma), sequence[0]), sequence)
    for mine, expected in zip(found, literal(sequence, beta, sigma), strict=True):
        torch.testing.assert_close(mine, expected)


def test_equal_norms_without_average_are_the_sum():
    rows = torch.nn.functional.normalize(jacobian(4, 6), dim=1)
    (found,) = directions(ready(DBMTL(beta=0.0), rows), [rows])
    torch.testing.assert_close(found, rows.sum(0))


def exponential(prediction, target):
    """exp of a linear function: the gradient of its logarithm is the target."""
    return (prediction * target).sum().exp()


def test_equal_norms_without_average_are_si():
    """Log losses whose gradients are unit vectors everywhere: no balancing left to do."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(4):
        vectors = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        vectors /= vectors.norm(dim=1, keepdim=True)
        batches.append(point_batch(dict(zip("abc", vectors, strict=True))))
    results = []
    for strategy in (GradientStrategy(DBMTL(beta=0.0), weighting=SI()), build_strategy("si")):
        objective = point_objective(loss=exponential)
        train(strategy, objective, batches, sgd)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_factors_of_the_losses_do_not_matter():
    def hundred(prediction, target):
        return 100 * ((prediction - target) ** 2).mean()

    results = []
    for specs in (None, [make_spec("a", loss=hundred), make_spec("b"), make_spec("c")]):
        objective = make_objective(specs=specs)
        train(build_strategy("db_mtl"), objective, make_batches(), sgd)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-10


@pytest.mark.parametrize("name", [key for key in DEGENERATE if key != "float32"])
def test_degenerate_rows(name):
    rows = DEGENERATE[name]
    method = ready(DBMTL(), rows)
    for found in directions(method, [rows] * 3):
        assert torch.isfinite(found).all()
    assert method.diagnostics["left_out_total"] == 3 * (rows.norm(dim=1) == 0).sum()


def test_a_loss_of_zero_is_refused():
    objective = point_objective(loss=lambda prediction, target: 0 * (prediction * target).sum())
    strategy = build_strategy("db_mtl")
    with pytest.raises(NonFiniteError, match="> 0"):
        train(strategy, objective, [point_batch({task: torch.ones(4) for task in "abc"})], sgd)


def test_a_state_continues():
    sequence = [jacobian(3, 7, seed) for seed in range(6)]
    first, second = ready(DBMTL(beta_sigma=0.5), sequence[0]), ready(DBMTL(beta_sigma=0.5), sequence[0])
    directions(first, sequence[:3])
    second.load_state_dict(first.state_dict())
    for mine, expected in zip(directions(second, sequence[3:]), directions(first, sequence[3:]), strict=True):
        assert torch.equal(mine, expected)


def test_options_are_checked():
    for options in ({"beta": 1.0}, {"beta": -0.1}, {"beta_sigma": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            DBMTL(**options)
    with pytest.raises(ConfigError, match="level = features"):
        build_strategy("db_mtl", "strategy.level=features")
