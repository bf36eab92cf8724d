import copy

import pytest
import torch

from mtl.aggregation import MGDA, Constant, PCGrad
from mtl.errors import ConfigError
from mtl.strategies import GradientStrategy, LossWeightingStrategy
from mtl.weighting import Static, Uncertainty
from tests.problems import adam, distance, make_batches, make_objective, make_spec, parameters_of, sgd, train
from tests.toys import run_with_resume, same_state, scaled_loss

TASKS = ("a", "b", "c")
LEVELS = ["parameters", "features", "last_layer"]


def result(strategy, specs=None, count=6, make_optimizer=adam, seed=0):
    objective = make_objective(specs=specs)
    reports = train(strategy, objective, make_batches(count=count), make_optimizer, seed=seed)
    return parameters_of(objective), reports


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("aggregator", [PCGrad, MGDA])
def test_static_weights_in_front_are_scaled_losses(level, every, aggregator):
    weights = [0.5, 20.0, 3.0]
    specs = [make_spec(task, loss=scaled_loss(w)) for task, w in zip(TASKS, weights, strict=True)]
    options = {"level": level, "weights_every": every}
    front, reports = result(GradientStrategy(aggregator(), weighting=Static(weights), **options))
    scaled, expected = result(GradientStrategy(aggregator(), **options), specs)
    plain, _ = result(GradientStrategy(aggregator(), **options))
    assert distance(front, scaled) < 1e-9
    assert distance(front, plain) > 1e-3
    factors = torch.tensor(weights, dtype=torch.float64)
    for mine, theirs in zip(reports, expected, strict=True):
        torch.testing.assert_close(mine.losses * factors, theirs.losses)
        torch.testing.assert_close(mine.weights, theirs.weights * factors)
        assert (mine.gramian is None) == (theirs.gramian is None)
        if mine.gramian is not None:
            torch.testing.assert_close(mine.gramian, theirs.gramian)


def test_static_weights_reach_a_normalization_by_losses():
    weights = [0.5, 20.0, 3.0]
    specs = [make_spec(task, loss=scaled_loss(w)) for task, w in zip(TASKS, weights, strict=True)]
    front, _ = result(GradientStrategy(MGDA("loss+"), weighting=Static(weights)))
    assert distance(front, result(GradientStrategy(MGDA("loss+")), specs)[0]) < 1e-9


@pytest.mark.parametrize("level", LEVELS)
def test_uncertainty_in_front_of_a_sum_is_uncertainty(level):
    """Log-variances are learned as in the loss-weighting strategy, at their own learning rate."""
    front = GradientStrategy(Constant(1.0), level=level, weighting=Uncertainty(lr=0.1))
    plain = LossWeightingStrategy(Uncertainty(lr=0.1))
    assert distance(result(front)[0], result(plain)[0]) < 1e-7  # log-variances are float32
    torch.testing.assert_close(front.weighting.log_variance, plain.weighting.log_variance, rtol=1e-5, atol=1e-7)
    assert front.weighting.log_variance.abs().min() > 0.05


def test_uncertainty_in_front_survives_resume():
    def strategy():
        return GradientStrategy(PCGrad(), weights_every=3, weighting=Uncertainty(lr=0.1))

    whole, parts = run_with_resume(strategy, make_objective, make_batches(count=8), adam, cut=4)
    assert distance(whole[0], parts[0]) == 0
    assert same_state(whole[1].state_dict(), parts[1].state_dict())
    assert torch.equal(whole[1].weighting.log_variance, parts[1].weighting.log_variance)
    assert whole[1].weighting.log_variance.abs().min() > 0.05


@pytest.mark.parametrize("level", LEVELS)
def test_weights_every(level):
    strategy = GradientStrategy(MGDA(), level=level, weights_every=3)
    reports = result(strategy, count=7)[1]
    assert [report.gramian is not None for report in reports] == [True, False, False] * 2 + [True]
    for start in (0, 3):
        assert all(torch.equal(reports[start].weights, reports[start + i].weights) for i in (1, 2))
    assert not torch.equal(reports[0].weights, reports[3].weights)
    measured = 3 if level == "parameters" else 1
    assert [report.cost.backbone_backwards for report in reports] == [measured, 1, 1] * 2 + [measured]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("head_gradients", ["own", "weighted"])
def test_reused_weights_give_the_weighted_step(level, head_gradients):
    """A step without a Gramian moves shared parameters along sum_k w_k g_k, heads along g_k or w_k g_k."""
    first, second = make_batches(count=2)
    objective, reference = make_objective(), make_objective()
    strategy = GradientStrategy(MGDA(), level=level, weights_every=2, head_gradients=head_gradients)
    strategy.setup(objective, sgd, torch.Generator())
    strategy.step(first)
    reference.model.load_state_dict(copy.deepcopy(objective.model.state_dict()))
    report = strategy.step(second)
    assert report.gramian is None
    weights = report.weights.tolist()
    losses = reference.evaluate(second).losses
    shared = reference.shared_parameters()
    gradients = torch.autograd.grad(sum(w * x for w, x in zip(weights, losses, strict=True)), shared, retain_graph=True)
    pairs = list(zip(objective.shared_parameters(), shared, gradients, strict=True))
    for k, loss in enumerate(losses):
        factor = weights[k] if head_gradients == "weighted" else 1.0
        own = torch.autograd.grad(factor * loss, reference.task_parameters(k), retain_graph=True)
        pairs += list(zip(objective.task_parameters(k), reference.task_parameters(k), own, strict=True))
    for new, old, gradient in pairs:
        torch.testing.assert_close(new.detach(), old.detach() - 0.05 * gradient, rtol=1e-9, atol=1e-13)


def test_weighted_heads_of_constant_weights_are_a_scaled_sum():
    specs = [make_spec(task, loss=scaled_loss(0.3)) for task in TASKS]
    weighted, _ = result(GradientStrategy(Constant(0.3), head_gradients="weighted"), make_optimizer=sgd)
    scaled, _ = result(GradientStrategy(Constant(1.0)), specs, make_optimizer=sgd)
    own, _ = result(GradientStrategy(Constant(0.3)), make_optimizer=sgd)
    assert distance(weighted, scaled) < 1e-12
    assert distance(own, scaled) > 1e-3


@pytest.mark.parametrize(
    ("name", "value"), [("level", "layers"), ("head_gradients", "none"), ("weights_every", 0), ("weights_every", 1.5)]
)
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        GradientStrategy(Constant(1.0), **{name: value})


def test_wrong_batch_axis():
    with pytest.raises(ConfigError, match="batch_axis"):
        GradientStrategy(Constant(1.0), level="features", batch_axis="mean")
