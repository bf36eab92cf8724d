"""Lookahead affinity (Fifty et al. 2021) against its definition, and what measuring must not touch."""

import copy

import pytest
import torch
from torch import nn

from mtl.errors import ConfigError
from mtl.models.model import MultiTaskModel
from mtl.strategies import LookaheadAffinityStrategy
from tests.problems import (
    adam,
    build_strategy,
    distance,
    make_batches,
    make_objective,
    make_spec,
    parameters_of,
    plain_steps,
    sgd,
    train,
)
from tests.toys import point_batch, point_objective, quadratic, run_with_resume, same_state

TASKS = ("a", "b", "c")


class Noisy(nn.Module):
    """A backbone with dropout and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 16)
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 6)
        self.out_features = 6

    def forward(self, inputs):
        return self.last(nn.functional.dropout(torch.tanh(self.norm(self.first(inputs))), 0.5, self.training))


def noisy_objective():
    torch.manual_seed(2)
    return make_objective(model=MultiTaskModel(Noisy(), {task: nn.Linear(6, 3) for task in TASKS}).double().train())


def slow_affinity(objective, batch, eta):
    """The definition, with a copied network for every trial step. Row i: stepped for i."""
    torch.manual_seed(9)
    before = [loss.item() for loss in copy.deepcopy(objective).evaluate(batch).losses]
    rows = []
    for i in range(len(before)):
        trial = copy.deepcopy(objective)
        torch.manual_seed(9)
        loss = trial.evaluate(batch).losses[i]
        gradients = torch.autograd.grad(loss, trial.shared_parameters())
        with torch.no_grad():
            for p, g in zip(trial.shared_parameters(), gradients, strict=True):
                p -= eta * g
        torch.manual_seed(9)
        after = [loss.item() for loss in trial.evaluate(batch, update_buffers=False).losses]
        rows.append([1 - x / y for x, y in zip(after, before, strict=True)])
    return rows


@pytest.mark.parametrize("scale", ["none", "learning_rate"])
@pytest.mark.parametrize("make", [make_objective, noisy_objective])
def test_the_definition(make, scale):
    objective, batch = make(), make_batches(count=1)[0]
    expected = slow_affinity(objective, batch, eta=0.05)
    strategy = LookaheadAffinityStrategy(scale=scale)
    strategy.setup(objective, sgd, torch.Generator())
    torch.manual_seed(9)
    report = strategy.step(batch)
    for i, source in enumerate(TASKS):
        for j, target in enumerate(TASKS):
            value = expected[i][j] / (0.05 if scale == "learning_rate" else 1)
            assert report.diagnostics[f"affinity/{source}->{target}"] == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert strategy.affinity.shape == (3, 3)


def test_by_hand():
    """L_k = |theta - t_k|^2 / 2, eta 1/2: a step for i moves theta half the way to t_i.

    theta = (1, 1); t_a = (3, 1): L_a = 2; t_b = (1, 3): L_b = 2; t_c = (-1, 1): L_c = 2.
    For a: theta = (2, 1): L_a = 1/2, L_b = (1 + 4) / 2, L_c = 9 / 2: Z = 3/4, -1/4, -5/4.
    """
    objective = point_objective(size=2, loss=quadratic)
    batch = point_batch({"a": torch.tensor([3.0, 1]), "b": torch.tensor([1.0, 3]), "c": torch.tensor([-1.0, 1])})
    strategy = LookaheadAffinityStrategy()
    strategy.setup(objective, lambda parameters: torch.optim.SGD(parameters, lr=0.5), torch.Generator())
    strategy.step(batch)
    expected = torch.tensor([[0.75, -0.25, -1.25], [-0.25, 0.75, -0.25], [-1.25, -0.25, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(strategy.affinity, expected)


@pytest.mark.parametrize("make_optimizer", [sgd, adam])
def test_measuring_leaves_the_training_as_it_is(make_optimizer):
    """Parameters, buffers and random numbers: the same bits as `uniform` without a measurement."""
    batches = make_batches()
    results = []
    for strategy in (LookaheadAffinityStrategy(measure_every=1), build_strategy("uniform")):
        objective = noisy_objective()
        torch.manual_seed(4)
        train(strategy, objective, batches, make_optimizer)
        results.append((dict(objective.model.state_dict()), torch.get_rng_state()))
    assert same_state(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_it_is_plain_training():
    batches = make_batches()
    mine, plain = make_objective(), make_objective()
    train(LookaheadAffinityStrategy(measure_every=2), mine, batches, adam)
    assert distance(parameters_of(mine), plain_steps(plain, batches, adam)) < 1e-12


def test_the_mean_over_measurements():
    batches = make_batches(count=5)
    objective = make_objective()
    strategy = LookaheadAffinityStrategy(measure_every=2)
    strategy.setup(objective, sgd, torch.Generator())
    found, forwards = [], []
    for index, batch in enumerate(batches):
        if index % 2 == 0:
            found.append(torch.tensor(slow_affinity(objective, batch, 0.05), dtype=torch.float64))
        report = strategy.step(batch)
        forwards.append(report.cost.forwards)
    torch.testing.assert_close(strategy.affinity, torch.stack(found).mean(0), rtol=1e-9, atol=1e-12)
    assert forwards == [4, 1, 4, 1, 4]
    assert report.diagnostics["affinity_measurements"] == 3


def test_the_current_learning_rate_counts():
    batch = make_batches(count=1)[0]
    objective = make_objective()
    strategy = LookaheadAffinityStrategy()
    strategy.setup(objective, sgd, torch.Generator())
    for group in strategy.optimizers[0].param_groups:
        group["lr"] = 0.2
    expected = torch.tensor(slow_affinity(objective, batch, 0.2), dtype=torch.float64)
    strategy.step(batch)
    torch.testing.assert_close(strategy.affinity, expected, rtol=1e-9, atol=1e-12)


def test_a_loss_of_zero_has_no_quotient():
    def nothing(prediction, target):
        return (prediction * 0).sum()

    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=nothing), make_spec("c")])
    (report,) = train(LookaheadAffinityStrategy(), objective, make_batches(count=1), sgd)
    assert "affinity/a->b" not in report.diagnostics
    assert report.diagnostics["affinity/b->a"] == 0
    assert report.diagnostics["affinity_undefined"] == 3


def test_saved_and_continued():
    (first, a), (second, b) = run_with_resume(
        lambda: LookaheadAffinityStrategy(measure_every=2), make_objective, make_batches(), adam, cut=3
    )
    assert distance(first, second) == 0
    assert same_state(a.state_dict(), b.state_dict())


@pytest.mark.parametrize(("name", "value"), [("measure_every", 0), ("scale", "lr"), ("max_grad_norm", 0)])
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        LookaheadAffinityStrategy(**{name: value})
