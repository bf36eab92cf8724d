"""Double sampling against a step written out, and what becomes of the parts of a batch."""

import pytest
import torch

from mtl.aggregation import CrossGramianWeighting, MoDo
from mtl.errors import ConfigError
from mtl.gradients import inner_products
from mtl.strategies import DoubleSamplingStrategy
from tests.problems import (
    adam,
    build_strategy,
    distance,
    make_batches,
    make_model,
    make_objective,
    parameters_of,
    plain_steps,
    sgd,
    train,
)

TASKS = ("a", "b", "c")
LR = 0.05


class Given(CrossGramianWeighting):
    """Weights that do not depend on anything; keeps what it was shown."""

    def __init__(self, weights):
        super().__init__()
        self.given = torch.tensor(weights, dtype=torch.float64)

    def setup(self, num_tasks):
        self.seen = []

    def forward(self, cross):
        self.seen.append(cross)
        return self.given


def flat_rows(objective, part):
    """(m, n) and the head gradients, one backward at a time."""
    losses = objective.evaluate(part).losses
    shared = objective.shared_parameters()
    rows = [torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True) for loss in losses]
    heads = [
        torch.autograd.grad(loss, objective.task_parameters(k), retain_graph=True) for k, loss in enumerate(losses)
    ]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]), heads


def written_out(objective, batches, aggregator, samples=3, head_samples="last", head_gradients="own"):
    """Every sample's Jacobian in full; SGD by hand."""
    aggregator.setup(len(TASKS))
    for batch in batches:
        parts = [flat_rows(objective, part) for part in batch.parts(samples)]
        weights = aggregator(parts[0][0] @ parts[1][0].T)
        direction = weights @ (parts[2][0] if samples == 3 else (parts[0][0] + parts[1][0]) / 2)
        with torch.no_grad():
            position = 0
            for p in objective.shared_parameters():
                p -= LR * direction[position : position + p.numel()].view_as(p)
                position += p.numel()
            for k in range(len(TASKS)):
                for i, p in enumerate(objective.task_parameters(k)):
                    found = torch.stack([heads[k][i] for _, heads in parts])
                    gradient = {"last": found[-1], "mean": found.mean(0), "sum": found.sum(0)}[head_samples]
                    p -= LR * gradient * (weights[k] if head_gradients == "weighted" else 1)


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("head_samples", ["last", "mean", "sum"])
@pytest.mark.parametrize("head_gradients", ["own", "weighted"])
def test_steps_written_out(samples, head_samples, head_gradients):
    options = {"samples": samples, "head_samples": head_samples, "head_gradients": head_gradients}
    mine, reference = make_objective(), make_objective()
    batches = make_batches()
    train(DoubleSamplingStrategy(MoDo(), **options), mine, batches, sgd)
    written_out(reference, batches, MoDo(), **options)
    assert distance(parameters_of(mine), parameters_of(reference)) < 1e-12


def test_without_shared_features():
    def objective():
        model = make_model(TASKS)
        model.heads["b"].weight = model.heads["a"].weight
        return make_objective(model=model)

    mine, reference = objective(), objective()
    assert not mine.exposes_features
    train(DoubleSamplingStrategy(MoDo()), mine, make_batches(), sgd)
    written_out(reference, make_batches(), MoDo())
    assert distance(parameters_of(mine), parameters_of(reference)) < 1e-12


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_one_task_is_plain_training_on_the_last_third(name):
    mine, plain = make_objective(("a",)), make_objective(("a",))
    batches = make_batches(("a",))
    train(build_strategy(name), mine, batches, adam)
    assert distance(parameters_of(mine), plain_steps(plain, [b.parts(3)[-1] for b in batches], adam)) < 1e-12


def test_two_equal_halves_with_weights_one_are_uniform():
    """samples: 2 trains on the whole batch; so do heads with `mean`."""
    mine, plain = make_objective(), make_objective()
    batches = make_batches(size=8)
    train(DoubleSamplingStrategy(Given([1.0] * 3), samples=2, head_samples="mean"), mine, batches, adam)
    assert distance(parameters_of(mine), plain_steps(plain, batches, adam)) < 1e-12


def test_the_two_samples_are_different_ones():
    aggregator = Given([1.0] * 3)
    objective = make_objective()
    expected = [flat_rows(objective, part)[0] for part in make_batches(count=1)[0].parts(3)]
    train(DoubleSamplingStrategy(aggregator), objective, make_batches(count=1), sgd)
    torch.testing.assert_close(aggregator.seen[0], expected[0] @ expected[1].T)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_small_batches_use_parts_again(size):
    objective, reference = make_objective(), make_objective()
    (batch,) = make_batches(count=1, size=size)
    expected = reference.measure(batch)
    (report,) = train(DoubleSamplingStrategy(MoDo()), objective, [batch], sgd)
    assert report.diagnostics["samples_reused"] == {1: 2, 2: 1}.get(size, 0)
    assert report.cost.samples == size
    torch.testing.assert_close(report.losses, expected)  # of the whole batch, parts of unequal size


def test_products_that_overflow_single_precision_are_taken_again():
    first, second = torch.full((2, 3), 1e25), torch.full((2, 3), -1e20)
    expected = torch.full((2, 2), -3e45, dtype=torch.float64)
    torch.testing.assert_close(inner_products(first, second), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("option", "value"), [("samples", 4), ("head_samples", "first"), ("head_gradients", "none"), ("max_grad_norm", 0)]
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        DoubleSamplingStrategy(MoDo(), **{option: value})


def test_clipping_limits_the_update():
    objective = make_objective()
    before = parameters_of(objective)
    (report,) = train(DoubleSamplingStrategy(MoDo(), max_grad_norm=1e-3), objective, make_batches(count=1), sgd)
    moved = torch.cat([(p - before[k]).flatten() for k, p in parameters_of(objective).items()]).norm().item()
    assert moved == pytest.approx(LR * 1e-3)
    assert report.diagnostics["grad_clipped"] == 1
