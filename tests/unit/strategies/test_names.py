"""Strategies that are another one by name or by composition."""

import torch

from mtl.aggregation import IMTLG
from mtl.strategies import GradientStrategy
from mtl.weighting import IMTLL
from tests.problems import adam, build_strategy, distance, make_batches, make_objective, parameters_of, train


def test_adatask_is_mao():
    trained = []
    for name in ("adatask", "mao"):
        objective = make_objective()
        train(build_strategy(name), objective, make_batches(), adam)
        trained.append(parameters_of(objective))
    assert distance(*trained) == 0


def test_imtl_is_imtl_l_in_front_of_imtl_g_at_the_features():
    objectives = [make_objective() for _ in range(3)]
    (mine, both, half) = (
        train(strategy, objective, make_batches(), adam)
        for strategy, objective in zip(
            (
                build_strategy("imtl"),
                GradientStrategy(IMTLG(), level="features", weighting=IMTLL()),
                GradientStrategy(IMTLG(), level="features"),
            ),
            objectives,
            strict=True,
        )
    )
    assert distance(parameters_of(objectives[0]), parameters_of(objectives[1])) == 0
    assert distance(parameters_of(objectives[0]), parameters_of(objectives[2])) > 1e-6
    torch.testing.assert_close(mine[0].weights, half[0].weights)  # e^0 = 1 in the first step
    assert torch.equal(mine[-1].weights, both[-1].weights)


def test_imtl_has_equal_projections_on_the_scaled_gradients():
    """Both halves at once: w e^s-scaled features' gradients project equally."""
    reports = train(build_strategy("imtl"), make_objective(), make_batches(), adam)
    for report in reports:
        assert report.diagnostics["projection_spread"] < 1e-9
        assert report.diagnostics["rank_deficient_total"] == 0
