"""Bilevel training against differentiation through the virtual step, and what it may and may not read."""

import copy

import pytest
import torch
from torch.func import functional_call

from mtl.aggregation import MGDA, MOML, AutoLambda, Random
from mtl.datasets.base import Loader
from mtl.errors import ConfigError, NonFiniteError, RequirementError
from mtl.strategies import BilevelStrategy
from mtl.strategies.virtual import displaced
from tests.problems import (
    adam,
    begin,
    build_strategy,
    distance,
    make_batches,
    make_model,
    make_objective,
    make_spec,
    parameters_of,
    sgd,
    small_loaders,
    squared,
    train,
)

TASKS = ("a", "b", "c")


class Recording(AutoLambda):
    """Keeps the hypergradients."""

    def observe(self, hypergradients, losses):
        self.seen = [*getattr(self, "seen", []), (hypergradients, losses)]
        super().observe(hypergradients, losses)


class RecordingMOML(MOML):
    def observe(self, hypergradients, losses):
        self.seen = [*getattr(self, "seen", []), (hypergradients, losses)]
        super().observe(hypergradients, losses)


def losses_at(objective, parameters, batch):
    """Task losses of the model at other parameters, with graph."""

    class Losses(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, batch):
            features = self.model.features(batch.inputs, list(TASKS))
            return torch.stack([squared(self.model.predict(features, t), batch.targets[t]) for t in TASKS])

    whole = {f"model.{name}": value for name, value in parameters.items()}
    return functional_call(Losses(objective.model), whole, (batch,))


def through_the_virtual_step(objective, batch, held_out, weights, lr, drift=None):
    """(m, m) derivatives of the held-out losses by the weights: autograd, graph and all."""
    named = dict(objective.model.named_parameters())

    def held_out_losses(w):
        gradients = torch.autograd.grad(w @ losses_at(objective, named, batch), named.values(), create_graph=True)
        drifts = drift or [0.0] * len(gradients)
        moved = {name: p - lr * (g + d) for (name, p), g, d in zip(named.items(), gradients, drifts, strict=True)}
        return losses_at(objective, moved, held_out)

    return torch.autograd.functional.jacobian(held_out_losses, weights), held_out_losses(weights).detach()


def first_held_out(objective):
    loader = begin(BilevelStrategy(AutoLambda()), objective).held_out
    return next(loader.batches(0))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_exact_hypergradients_are_the_derivatives(batch_norm):
    objective = make_objective(batch_norm=batch_norm)
    held_out, (batch,) = first_held_out(objective), make_batches(count=1)
    start = torch.full((3,), 0.1, dtype=torch.float64)
    expected, values = through_the_virtual_step(objective, batch, held_out, start, 0.05)
    mine = Recording()
    train(BilevelStrategy(mine), make_objective(batch_norm=batch_norm), [batch], sgd)
    torch.testing.assert_close(mine.seen[0][0][0], expected.sum(dim=0), rtol=1e-9, atol=1e-14)
    assert mine.seen[0][1].item() == pytest.approx(values.sum().item())
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected, values = through_the_virtual_step(objective, batch, held_out, third, 0.05)
    mine = RecordingMOML(MGDA())
    train(BilevelStrategy(mine), make_objective(batch_norm=batch_norm), [batch], sgd)
    torch.testing.assert_close(mine.seen[0][0], expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(mine.seen[0][1], values)


class Dropped(torch.nn.Module):
    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.dropout, self.out_features = trunk, torch.nn.Dropout(0.5), trunk.out_features

    def forward(self, inputs):
        return self.dropout(self.trunk(inputs))


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("meta", [Recording, lambda: RecordingMOML(MGDA())])
def test_finite_differences_approach_them(dropout, meta):
    """Also with dropout: all forwards of a step have the same masks."""
    found = {}
    for kind in ("exact", "finite_difference"):
        model = make_model(TASKS)
        if dropout:
            model.backbone = Dropped(model.backbone)
        mine = meta()
        torch.manual_seed(5)
        train(
            BilevelStrategy(mine, hypergradient=kind, epsilon=1e-4), make_objective(model=model), make_batches(count=2)
        )
        found[kind] = mine.seen
    for exact, other in zip(found["exact"], found["finite_difference"], strict=True):
        torch.testing.assert_close(other[0], exact[0], rtol=1e-5, atol=1e-9)
        assert exact[0].abs().min() > 1e-5


@pytest.mark.parametrize("kind", ["exact", "finite_difference"])
def test_the_global_generator_moves_as_by_one_forward(kind):
    model = make_model(TASKS)
    model.backbone = Dropped(model.backbone)
    objective, (batch,) = make_objective(model=model), make_batches(count=1)
    strategy = begin(BilevelStrategy(AutoLambda(), hypergradient=kind), objective)
    torch.manual_seed(3)
    objective.evaluate(batch)
    expected = torch.get_rng_state()
    torch.manual_seed(3)
    strategy.step(batch)
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("constraint", ["none", "softmax"])
def test_a_run_written_out(constraint):
    """Virtual step, hypergradient by autograd, SGD on the weights, SGD on the network."""
    batches, lr, meta_lr = make_batches(), 0.05, 2.0
    mine, objective = make_objective(), make_objective()
    strategy = BilevelStrategy(AutoLambda(initial=0.5, lr=meta_lr, rule="sgd", constraint=constraint))
    reports = train(strategy, mine, batches, sgd)
    loader = begin(BilevelStrategy(AutoLambda()), make_objective()).held_out
    held_out = [*loader.batches(0), *loader.batches(1)]
    raw = torch.full((3,), 0.0 if constraint == "softmax" else 0.5, dtype=torch.float64)
    for batch, other, report in zip(batches, held_out, reports, strict=True):
        raw.requires_grad_()
        w = 1.5 * torch.softmax(raw, dim=0) if constraint == "softmax" else raw
        h, _ = through_the_virtual_step(objective, batch, other, w.detach(), lr)
        (slope,) = torch.autograd.grad(h.sum(dim=0) @ w, raw)
        raw = (raw - meta_lr * slope).detach()
        w = 1.5 * torch.softmax(raw, dim=0) if constraint == "softmax" else raw
        torch.testing.assert_close(report.weights, w, rtol=1e-9, atol=1e-12)
        named = dict(objective.model.named_parameters())
        gradients = torch.autograd.grad(w @ losses_at(objective, named, batch), named.values())
        with torch.no_grad():
            for p, g in zip(named.values(), gradients, strict=True):
                p -= lr * g
    assert distance(parameters_of(mine), parameters_of(objective)) < 1e-10


def test_the_released_virtual_step_has_momentum_and_weight_decay():
    def heavy(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1)

    objective, batches = make_objective(), make_batches(count=2)
    mine = Recording()
    strategy = begin(BilevelStrategy(mine, virtual_step="released_code"), objective, heavy)
    strategy.step(batches[0])
    state = strategy.optimizers[0].state
    drift = [0.1 * p.detach() + 0.9 * state[p]["momentum_buffer"] for p in objective.model.parameters()]
    held_out = list(strategy.held_out.batches(0))[1]
    expected, _ = through_the_virtual_step(objective, batches[1], held_out, mine.weights(), 0.05, drift)
    plain, _ = through_the_virtual_step(objective, batches[1], held_out, mine.weights(), 0.05)
    strategy.step(batches[1])
    torch.testing.assert_close(mine.seen[1][0][0], expected.sum(dim=0), rtol=1e-9, atol=1e-14)
    assert not torch.allclose(expected, plain, rtol=1e-3)


def test_the_virtual_rate_scales_the_hypergradient_of_a_linear_problem():
    first, second = Recording(), Recording()
    train(BilevelStrategy(first, virtual_lr=1e-7), make_objective(), make_batches(count=1), sgd)
    train(BilevelStrategy(second, virtual_lr=2e-7), make_objective(), make_batches(count=1), sgd)
    torch.testing.assert_close(2 * first.seen[0][0], second.seen[0][0], rtol=1e-4, atol=0)


def test_only_primary_tasks_count():
    """Other tasks' held-out losses may be anything."""
    weights = []
    for poison in (False, True):
        objective = make_objective()
        strategy = BilevelStrategy(AutoLambda(primary=["b"]))
        strategy.setup(objective, sgd, torch.Generator())
        loaders = small_loaders(objective)
        if poison:
            loaders["val"].split.targets["a"].fill_(float("nan"))
        strategy.attach(loaders)
        weights.append([strategy.step(batch).weights for batch in make_batches()][-1])
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", ["auto_lambda", "moml"])
def test_a_bad_held_out_loss_leaves_the_parameters(name):
    objective = make_objective()
    strategy = build_strategy(name)
    strategy.setup(objective, adam, torch.Generator())
    loaders = small_loaders(objective)
    loaders["val"].split.targets["c"].fill_(float("nan"))
    strategy.attach(loaders)
    before = parameters_of(objective)
    with pytest.raises(NonFiniteError, match=r"c = nan"):
        strategy.step(make_batches(count=1)[0])
    assert distance(before, parameters_of(objective)) == 0


def root(prediction, target):
    """Finite, with an infinite derivative at the target."""
    return (prediction - target).abs().sqrt().sum()


@pytest.mark.parametrize("kind", ["exact", "finite_difference"])
def test_a_bad_held_out_gradient_is_named(kind):
    objective = make_objective(specs=[make_spec("a", loss=root)])
    strategy = begin(BilevelStrategy(AutoLambda(), hypergradient=kind, virtual_lr=1e-30), objective)
    for batch in strategy.held_out.batches(0):
        prediction = objective.model.predict(objective.model.features(batch.inputs, ["a"]), "a")
        batch.targets["a"].copy_(prediction.detach())
    split = strategy.held_out.split
    split.targets["a"].copy_(objective.model.predict(objective.model.features(split.inputs, ["a"]), "a").detach())
    before = parameters_of(objective)
    with pytest.raises(NonFiniteError, match="gradient of the held-out losses"):
        strategy.step(make_batches(("a",), count=1)[0])
    assert distance(before, parameters_of(objective)) == 0


def test_a_flat_held_out_loss_is_counted():
    def flat(prediction, target):
        return 0 * prediction.sum() + 1.0

    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=flat)])
    strategy = BilevelStrategy(AutoLambda(primary=["b"]), hypergradient="finite_difference")
    (report,) = train(strategy, objective, make_batches(("a", "b"), count=1), sgd)
    assert report.diagnostics["zero_directions"] == 1
    assert report.weights.tolist() == [0.1, 0.1]


def test_displaced_comes_back_to_the_bit():
    parameters = [torch.nn.Parameter(torch.tensor([0.1, 1e-20, 3e7])), torch.nn.Parameter(torch.randn(4))]
    before = [p.detach().clone() for p in parameters]
    by = [torch.full_like(p, 0.3) for p in parameters]

    def fail():
        with displaced(parameters, by, -2.0):
            assert torch.allclose(parameters[1].detach(), before[1] - 0.6)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))


def test_held_out_batches_are_the_validation_split_and_nothing_else():
    objective = make_objective()
    strategy = begin(BilevelStrategy(AutoLambda()), objective)
    loaders = small_loaders(objective)
    assert torch.equal(strategy.held_out.split.inputs, loaders["val"].split.inputs)
    drawn = [strategy._draw() for _ in range(6)]
    assert [batch.num_samples for batch in drawn] == [5, 5, 2] * 2
    for epoch in (drawn[:3], drawn[3:]):
        rows = torch.cat([batch.inputs for batch in epoch])
        assert sorted(rows.tolist()) == sorted(loaders["val"].split.inputs.tolist())
    assert not torch.equal(drawn[0].inputs, drawn[3].inputs)


def test_the_order_is_that_of_the_counter():
    """Saved after four draws, continued in another object: the same fifth batch."""
    first, second = (begin(BilevelStrategy(AutoLambda()), make_objective()) for _ in range(2))
    for _ in range(4):
        first._draw()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first._draw().inputs, second._draw().inputs)


def test_an_inner_method_that_draws_is_resumed():
    """Random weights come from the strategy's generator, which is saved."""
    batches = make_batches(count=4)
    whole, objective = BilevelStrategy(MOML(Random(), lr=1.0, rule="sgd")), make_objective()
    begin(whole, objective)
    whole.step(batches[0])
    continued, other = BilevelStrategy(MOML(Random(), lr=1.0, rule="sgd")), make_objective()
    begin(continued, other, seed=5)
    continued.load_state_dict(copy.deepcopy(whole.state_dict()))
    other.model.load_state_dict(objective.model.state_dict())
    for batch in batches[1:]:
        assert torch.equal(whole.step(batch).weights, continued.step(batch).weights)


def test_a_missing_validation_split_is_refused():
    objective = make_objective()
    strategy = BilevelStrategy(AutoLambda())
    strategy.setup(objective, sgd, torch.Generator())
    loaders = small_loaders(objective)
    with pytest.raises(RequirementError, match=r"dataset\.val_size"):
        strategy.attach({"train": loaders["train"], "test": loaders["val"]})


def test_batch_size_of_the_held_out_batches():
    objective = make_objective()
    strategy = begin(BilevelStrategy(AutoLambda(), val_batch_size=7), objective)
    assert isinstance(strategy.held_out, Loader)
    assert strategy._draw().num_samples == 7


def test_what_stands_beside_the_numbers():
    assert "validation split was used" in BilevelStrategy(AutoLambda()).note


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hypergradient", "implicit"),
        ("epsilon", 0.0),
        ("virtual_step", "adam"),
        ("virtual_lr", 0.0),
        ("val_batch_size", 0),
        ("max_grad_norm", 0.0),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        BilevelStrategy(AutoLambda(), **{option: value})
