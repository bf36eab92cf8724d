"""RotoGrad (Javaloy and Valera 2022) against its equations written out, and its limits."""

import pytest
import torch
from torch import nn

from mtl.errors import ConfigError, NonFiniteError, RequirementError
from mtl.models.model import MultiTaskModel
from mtl.strategies import RotoGradStrategy
from tests.problems import (
    adam,
    build_strategy,
    distance,
    make_batches,
    make_model,
    make_objective,
    make_spec,
    parameters_of,
    plain_steps,
    sgd,
    train,
)
from tests.toys import run_with_resume, same_state

FAST = {"rotation_lr": 0.05}


class Maps(nn.Module):
    """A backbone with features (B, 4, 3, 2)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 24)
        self.out_features = 4

    def forward(self, inputs):
        return torch.tanh(self.first(inputs)).view(-1, 4, 3, 2)


def maps_objective():
    torch.manual_seed(1)
    heads = {task: nn.Sequential(nn.Flatten(), nn.Linear(24, 3)) for task in "abc"}
    return make_objective(model=MultiTaskModel(Maps(), heads).double().train())


def skew(entries, size):
    matrix = torch.zeros(size, size, dtype=torch.float64)
    position = 0
    for i in range(size):
        for j in range(i):
            matrix[i, j] = entries[position]
            matrix[j, i] = -entries[position]
            position += 1
    return matrix


def slow_twin(objective, batches, options, lr=0.05):
    """The paper's equations, sample by sample; `distance` as the released code computes it."""
    scale, alignment = options.get("scale", "rotograd"), options.get("alignment", "inner_product")
    model, m = objective.model, objective.num_tasks
    width = model.backbone.out_features
    size = options.get("rotation_size") or width
    entries = [torch.zeros(size * (size - 1) // 2, dtype=torch.float64, requires_grad=True) for _ in range(m)]
    optimizer = torch.optim.Adam(entries, lr=options["rotation_lr"])
    reference, losses0 = None, None
    for step, batch in enumerate(batches):
        rotations = []
        for one in entries:
            full = torch.eye(width, dtype=torch.float64)
            full[:size, :size] = torch.matrix_exp(skew(one, size))
            rotations.append(full)
        z = model.backbone(batch.inputs)
        z_k = [z.detach().clone().requires_grad_() for _ in range(m)]
        r_k = [
            torch.stack([torch.tensordot(R.detach(), one, 1) for one in zk])
            for R, zk in zip(rotations, z_k, strict=True)
        ]
        for r in r_k:
            r.retain_grad()
        losses = [
            spec.loss(model.heads[spec.name](r), batch.targets[spec.name])
            for spec, r in zip(objective.specs, r_k, strict=True)
        ]
        if step in (0, options.get("burn_in_period", 0)):
            losses0 = [loss.item() for loss in losses]
        model.zero_grad()
        for loss, first in zip(losses, losses0, strict=True):
            (loss / first if options.get("normalize_losses") else loss).backward()
        g = [zk.grad for zk in z_k]
        norms = [one.norm() for one in g]
        if step in (0, options.get("burn_in_period", 0)):
            reference = norms
        ratios = [n / n0 for n, n0 in zip(norms, reference, strict=True)]
        common = sum(ratio / sum(ratios) * n for ratio, n in zip(ratios, norms, strict=True))
        z.backward(sum(g) if scale == "none" else common * sum(one / n for one, n in zip(g, norms, strict=True)))
        v = sum(one / n for one, n in zip(g, norms, strict=True)) / m
        mean_norm = (sum(g) / m).norm()
        optimizer.zero_grad()
        for R, r in zip(rotations, r_k, strict=True):
            per_sample = []
            for n in range(len(v)):
                if alignment == "inner_product":
                    per_sample.append(-(torch.tensordot(R.T, r.grad[n], 1) * v[n]).sum())
                else:
                    per_sample.append(((torch.tensordot(R, v[n] * mean_norm, 1) - r.grad[n]) ** 2).sum() / len(v))
            sum(per_sample).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
                p.grad = None
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= options.get("rotation_decay", 1.0)
    return parameters_of(objective), torch.stack([torch.matrix_exp(skew(one.detach(), size)) for one in entries])


@pytest.mark.parametrize("make", [make_objective, maps_objective])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": "none"},
        {"alignment": "distance"},
        {"burn_in_period": 2},
        {"normalize_losses": True, "burn_in_period": 1},
        {"rotation_size": 3},
        {"rotation_decay": 0.5},
    ],
)
def test_the_equations_written_out(make, options):
    options = {**FAST, **options}
    batches = make_batches(count=5)
    mine, twin = make(), make()
    train(RotoGradStrategy(**options), mine, batches, sgd)
    expected, rotations = slow_twin(twin, batches, options)
    assert distance(parameters_of(mine), expected) < 1e-9
    found = mine.model.view.rotations
    torch.testing.assert_close(found, rotations, rtol=0, atol=1e-8)
    assert (found - torch.eye(found.shape[1])).abs().max() > 0.05, "they hardly moved: the test shows nothing"


@pytest.mark.parametrize("make_optimizer", [sgd, adam])
def test_rotations_that_stay_leave_uniform(make_optimizer):
    batches = make_batches()
    mine, plain = make_objective(), make_objective()
    train(RotoGradStrategy(scale="none", rotation_lr=0.0), mine, batches, make_optimizer)
    assert distance(parameters_of(mine), plain_steps(plain, batches, make_optimizer)) < 1e-12


def test_the_first_update_without_scaling_is_uniform():
    """Rotations start at the identity."""
    batches = make_batches(count=1)
    mine, plain = make_objective(), make_objective()
    train(RotoGradStrategy(scale="none", **FAST), mine, batches, adam)
    assert distance(parameters_of(mine), plain_steps(plain, batches, adam)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotations_stay_orthogonal(dtype):
    objective = make_objective(dtype=dtype)
    strategy = RotoGradStrategy(rotation_lr=3.0, rotation_rule="adam")
    strategy.setup(objective, sgd, torch.Generator())
    for batch in make_batches(count=40, dtype=dtype):
        strategy.step(batch)
        rotations = objective.model.view.rotations.double()
        identity = torch.eye(rotations.shape[1], dtype=torch.float64).expand_as(rotations)
        torch.testing.assert_close(rotations.mT @ rotations, identity, rtol=0, atol=1e-6)
        torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("alignment", ["inner_product", "distance"])
def test_a_step_of_the_rotations_lowers_their_objective(alignment):
    """The network stands still (learning rate 0): <g~_k, R_k v> at the g~ and v of the step."""
    objective, batch = make_objective(), make_batches(count=1)[0]
    strategy = RotoGradStrategy(rotation_lr=0.01, rotation_rule="sgd", alignment=alignment)
    strategy.setup(objective, lambda parameters: torch.optim.SGD(parameters, lr=0.0), torch.Generator())
    evaluation = objective.evaluate(batch)  # at the identity, g~ = g
    g = torch.stack([torch.autograd.grad(loss, evaluation.features)[0] for loss in evaluation.losses])
    v = (g / g.flatten(1).norm(dim=1).view(-1, 1, 1)).mean(0)
    strategy.step(batch)
    turned = torch.einsum("kij,nj->kni", objective.model.view.rotations, v)
    before, after = (g * v).flatten(1).sum(1), (g * turned).flatten(1).sum(1)
    assert (after > before).all()


def test_training_the_rotations_aligns_the_gradients():
    objective, batch = make_objective(), make_batches(count=1)[0]
    strategy = RotoGradStrategy(rotation_lr=0.05)
    strategy.setup(objective, lambda parameters: torch.optim.SGD(parameters, lr=1e-4), torch.Generator())
    found = [strategy.step(batch).diagnostics["alignment"] for _ in range(60)]
    assert found[-1] > found[0] + 0.05


def test_the_common_norm():
    """In the first step all ratios are 1: C is the mean norm, and each task's share of the update has that norm."""
    objective, batch = make_objective(), make_batches(count=1)[0]
    evaluation = objective.evaluate(batch)
    norms = torch.stack([torch.autograd.grad(loss, evaluation.features)[0].norm() for loss in evaluation.losses])
    (report,) = train(RotoGradStrategy(), objective, [batch], sgd)
    torch.testing.assert_close(report.weights * norms, norms.mean().expand(3), rtol=1e-10, atol=0)


def test_saved_and_continued():
    (first, a), (second, b) = run_with_resume(
        lambda: RotoGradStrategy(burn_in_period=4, rotation_decay=0.9, normalize_losses=True, **FAST),
        make_objective,
        make_batches(),
        adam,
        cut=3,
    )
    assert distance(first, second) == 0
    assert same_state(a.state_dict(), b.state_dict())
    assert torch.equal(a.objective.model.view.rotations, b.objective.model.view.rotations)


def test_a_loaded_network_is_the_function_that_was_saved():
    """What is evaluated lies in the model's state: a new strategy sets up its view, then the weights are loaded."""
    objective, inputs = make_objective(), make_batches(count=1)[0].inputs
    train(build_strategy("rotograd", "strategy.rotation_lr=0.1"), objective, make_batches(), sgd)
    other = make_objective()
    build_strategy("rotograd").setup(other, sgd, torch.Generator())
    other.model.load_state_dict(objective.model.state_dict())
    mine, loaded = objective.model(inputs), other.model(inputs)
    assert all(torch.equal(mine[task], loaded[task]) for task in mine)
    plain = objective.model.heads["a"](objective.model.backbone(inputs))
    assert not torch.allclose(mine["a"], plain), "the rotation does nothing: the test shows nothing"


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(5, 6)
        self.out_features = 6

    def forward(self, inputs):
        return self.first(inputs), self.second(inputs)


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = nn.Linear(6, 3)

    def forward(self, pair):
        return self.own(pair[0] + pair[1])


def test_features_of_several_tensors_are_refused():
    model = MultiTaskModel(Pair(), {task: Sum() for task in "abc"}).double()
    objective = make_objective(model=model)
    assert objective.exposes_features
    with pytest.raises(RequirementError, match="one tensor"):
        RotoGradStrategy().setup(objective, sgd, torch.Generator())


def test_more_rotated_features_than_there_are():
    with pytest.raises(RequirementError, match="rotation_size"):
        RotoGradStrategy(rotation_size=7).setup(make_objective(), sgd, torch.Generator())


def test_no_shared_features():
    model = make_model("abc")
    model.heads["b"].weight = model.heads["a"].weight
    with pytest.raises(RequirementError):
        RotoGradStrategy().setup(make_objective(model=model), sgd, torch.Generator())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", "gradnorm"),
        ("rotation_size", 1),
        ("rotation_lr", -1.0),
        ("rotation_decay", 2.0),
        ("rotation_rule", "adamw"),
        ("alignment", "cosine"),
        ("burn_in_period", -1),
        ("normalize_losses", "yes"),
        ("max_grad_norm", 0.0),
    ],
)
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        RotoGradStrategy(**{name: value})


def test_losses_that_cannot_be_a_reference_are_refused():
    """Divided by a negative reference, a loss would be trained uphill."""
    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=lambda p, t: p.mean() - 10.0)])
    with pytest.raises(NonFiniteError, match="normalize_losses"):
        train(RotoGradStrategy(normalize_losses=True), objective, make_batches(("a", "b"), count=1))
