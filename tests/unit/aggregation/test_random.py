"""Random gradient weights."""

import pytest
import torch

from mtl.aggregation import Random
from mtl.errors import ConfigError
from tests.problems import adam, build_strategy, distance, make_batches, make_objective, parameters_of, train


def result(name, *overrides):
    objective = make_objective()
    reports = train(build_strategy(name, *overrides), objective, make_batches(), adam)
    return parameters_of(objective), reports


@pytest.mark.parametrize("total", ["num_tasks", "one"])
def test_with_weighted_heads_it_is_rlw(total):
    mine, _ = result("random", "strategy.head_gradients=weighted", f"strategy.aggregator.total={total}")
    assert distance(mine, result("rlw", f"strategy.weighting.total={total}")[0]) < 1e-12


def test_heads_are_their_own_by_default():
    mine, reports = result("random")
    assert distance(mine, result("rlw")[0]) > 1e-3
    assert all(report.weights.sum().item() == pytest.approx(3) for report in reports)
    assert len({report.weights[0].item() for report in reports}) == len(reports)


def test_the_level_does_not_matter():
    assert distance(result("random")[0], result("random", "strategy.level=features")[0]) < 1e-12


def test_torchjd_with_the_same_draws():
    aggregation = pytest.importorskip("torchjd.aggregation")
    mine = Random(total="one")
    mine.setup(5, torch.Generator().manual_seed(3))
    torch.manual_seed(3)
    for _ in range(4):
        theirs = aggregation.RandomWeighting()(torch.zeros(5, 2, dtype=torch.float64))
        torch.testing.assert_close(mine(torch.eye(5), torch.ones(5)), theirs)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="total"):
        Random(total="mean")
