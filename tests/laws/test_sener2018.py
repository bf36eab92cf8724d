"""Acceptance properties of Sener and Koltun 2018 (mgda, mgda_ub), on whole strategies.

With a loss that is linear in the shared parameters the task gradients are the targets, so one SGD step at learning rate
1 moves the parameters by -d. Not here: 9 (data set and published tables).
"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from mtl.aggregation import MGDA, Constant
from mtl.errors import RequirementError
from mtl.gradients import FeatureJacobian
from mtl.models.model import MultiTaskModel
from mtl.strategies import GradientStrategy
from tests.problems import (
    adam,
    build_strategy,
    distance,
    make_batches,
    make_objective,
    make_spec,
    parameters_of,
    sgd,
    train,
)
from tests.toys import point_batch, point_objective, quadratic, random_targets

NAMES = "abcdefgh"


def unit_sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def solve(gradients, level="parameters", **options):
    """The step -(new - old) and the weights for given task gradients (m, n)."""
    tasks = tuple(NAMES[: len(gradients)])
    objective = point_objective(tasks, size=gradients.shape[1])
    batch = point_batch(dict(zip(tasks, gradients, strict=True)))
    (report,) = train(GradientStrategy(MGDA(**options), level=level), objective, [batch], unit_sgd)
    return 1.0 - parameters_of(objective)["backbone.values"], report.weights


def normal(m, n, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, generator=generator, dtype=torch.float64)
    return rows * torch.exp(spread * torch.randn(m, 1, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("level", ["parameters", "features"])
def test_1_two_tasks(level):
    """1: d = gamma a + (1 - gamma) b matches a brute-force scan; inside (0,1), a.d = b.d = d.d."""
    gammas = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    inside = 0
    for seed in range(15):
        a, b = gradients = normal(2, 4, seed)
        d, weights = solve(gradients, level)
        scan = (gammas * a + (1 - gammas) * b).norm(dim=1)
        assert d.norm() <= scan.min() + 1e-9
        assert weights[0].item() == pytest.approx(gammas[scan.argmin()].item(), abs=1e-4)
        if 0 < weights[0] < 1:
            inside += 1
            torch.testing.assert_close(torch.stack([a @ d, b @ d]), (d @ d).expand(2), rtol=1e-8, atol=1e-10)
    assert 3 < inside < 15


@pytest.mark.parametrize("m", [3, 5, 8])
def test_2_optimality(m):
    """2: g_t.d >= d.d - tol for all t, equality where alpha_t > 0; alpha on the simplex; ||d|| <= min ||g_t||."""
    for seed in range(5):
        gradients = normal(m, 10, seed)
        d, alpha = solve(gradients)
        assert alpha.min() >= 0
        assert alpha.sum().item() == pytest.approx(1)
        products, square = gradients @ d, d @ d
        assert (products >= square - 1e-9).all()
        torch.testing.assert_close(products[alpha > 1e-9], square.expand(int((alpha > 1e-9).sum())), rtol=0, atol=1e-8)
        assert d.norm() <= gradients.norm(dim=1).min() + 1e-12


def test_3_solvers():
    """3: Frank-Wolfe with exact end points never increases ||d||; solvers agree on ||d|| within tolerance."""
    for seed in range(3):
        gradients = normal(5, 10, seed, spread=0.5)
        norms = [solve(gradients, solver="frank_wolfe", max_iter=i)[0].norm().item() for i in (1, 2, 3, 5, 8, 13, 250)]
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(norms))
        exact = solve(gradients)[0].norm().item()
        assert norms[-1] == pytest.approx(exact, rel=0.01)
        assert norms[-1] >= exact - 1e-12
        assert solve(gradients, solver="projected_gradient")[0].norm().item() == pytest.approx(exact, rel=1e-3)


def test_4_special_cases():
    """4: orthogonal gradients: alpha_t proportional to 1/||g_t||^2. Opposite gradients: d = 0. Identical gradients:
    d = g, no NaN. T = 1: plain descent."""
    lengths = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    alpha = solve(torch.diag(lengths))[1]
    torch.testing.assert_close(alpha, lengths**-2 / (lengths**-2).sum(), rtol=1e-9, atol=0)
    g = normal(1, 6, 0)[0]
    assert solve(torch.stack([g, -3 * g]))[0].abs().max() < 1e-12
    torch.testing.assert_close(solve(torch.stack([g, g, g]))[0], g, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(solve(g[None])[0], g, rtol=1e-12, atol=1e-12)


def test_5_symmetries():
    """5: permutation equivariant; scaling all gradients by c leaves alpha unchanged."""
    order = torch.tensor([2, 0, 3, 1])
    for seed in range(5):
        gradients = normal(4, 10, seed)
        alpha = solve(gradients)[1]
        torch.testing.assert_close(solve(gradients[order])[1], alpha[order], rtol=1e-8, atol=1e-9)
        for c in (1e-3, 1e3):
            torch.testing.assert_close(solve(c * gradients)[1], alpha, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("normalization", "power"), [("none", 1), ("l2", 0), ("loss", 0), ("loss+", -1)])
def test_6_scale_of_one_loss(normalization, power):
    """6: scaling one loss by c: its normalised gradient is unchanged for `l2` and `loss`, times c for `none`, times
    1/c for `loss+`."""
    c = 7.0
    gradients = normal(3, 10, 3, spread=0.3).abs()  # losses are sums of these: positive
    gradients[1, :4] *= -0.2
    scaled, expected = gradients.clone(), gradients.clone()
    scaled[0] *= c
    norms, losses = gradients.norm(dim=1, keepdim=True), gradients.sum(1, keepdim=True)
    n = {"none": 1.0, "l2": norms, "loss": losses, "loss+": norms * losses}[normalization]
    expected = gradients / n
    expected[0] *= c**power
    options = {"normalization": normalization, "apply_to": "normalized"}
    torch.testing.assert_close(solve(scaled, **options)[0], solve(expected)[0], rtol=1e-8, atol=1e-10)
    raw = solve(scaled, normalization=normalization)
    torch.testing.assert_close(raw[1], solve(expected)[1], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(raw[0], raw[1] @ scaled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("normalization", ["none", "l2", "loss+"])
def test_7_features_that_are_the_parameters(normalization):
    """7: UB equals MGDA when Z is itself the shared parameter tensor."""
    batches = [point_batch(t) for t in random_targets({"a": 1.0, "b": 3.0, "c": 0.5}, size=5)]
    results = []
    for name in ("mgda", "mgda_ub"):
        objective = point_objective(size=5, loss=quadratic, heads=True)
        strategy = build_strategy(name, f"strategy.aggregator.normalization={normalization}")
        reports = train(strategy, objective, batches, adam)
        results.append((reports, parameters_of(objective)))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(one.gramian, other.gramian, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one.weights, other.weights, rtol=1e-9, atol=1e-12)
    assert distance(results[0][1], results[1][1]) < 1e-12
    assert len({tuple(report.weights.round(decimals=6).tolist()) for report in results[0][0]}) > 1


def test_7_sum_over_the_batch():
    """7: UB alpha from the flattened batch differs in general from that of the batch sum; each is its Gramian's."""
    batch = make_batches(count=1)[0]
    found = {}
    for axis in ("kept", "summed"):
        objective = make_objective()
        z = objective.model.backbone(batch.inputs)
        rows = []
        for spec in objective.specs:
            (row,) = torch.autograd.grad(spec.loss(objective.model.heads[spec.name](z), batch.targets[spec.name]), z)
            rows.append(row.flatten() if axis == "kept" else row.sum(0))
        expected = torch.stack(rows) @ torch.stack(rows).T
        (report,) = train(build_strategy("mgda_ub", f"strategy.batch_axis={axis}"), objective, [batch], sgd)
        torch.testing.assert_close(report.gramian, expected, rtol=1e-10, atol=1e-14)
        found[axis] = report.weights
    assert (found["kept"] - found["summed"]).abs().max() > 0.01


def test_7_parameters_and_features_differ_in_general():
    """7, the other side: with a network between them, UB and MGDA find different weights."""
    batch = make_batches(count=1)
    weights = [train(build_strategy(name), make_objective(), batch, sgd)[0].weights for name in ("mgda", "mgda_ub")]
    assert (weights[0] - weights[1]).abs().max() > 0.01


def gradients_of_a_step(strategy, objective, batch):
    """What the optimizer finds in `.grad` during one step, shared and per head."""
    found = {}

    def look(*_):
        found["shared"] = [p.grad.clone() for p in objective.shared_parameters()]
        found["heads"] = [[p.grad.clone() for p in objective.task_parameters(k)] for k in range(objective.num_tasks)]

    strategy.setup(objective, sgd, torch.Generator().manual_seed(0))
    strategy.optimizers[0].register_step_pre_hook(look)
    return found, strategy.step(batch)


@pytest.mark.parametrize("name", ["mgda", "mgda_ub"])
@pytest.mark.parametrize("head_gradients", ["own", "weighted"])
def test_8_gradients(name, head_gradients):
    """8: the gradient of sum alpha_t L_t on th equals sum alpha_t g_t (same BatchNorm mode); `own` head steps do not
    depend on alpha, `weighted` ones are scaled by it."""
    batch = make_batches(count=1)[0]
    objective, reference = make_objective(batch_norm=True), make_objective(batch_norm=True)
    strategy = build_strategy(name, f"strategy.head_gradients={head_gradients}")
    found, report = gradients_of_a_step(strategy, objective, batch)
    alpha = report.weights.tolist()
    assert 0 < min(alpha) < max(alpha) < 1
    losses = reference.evaluate(batch).losses
    total = sum(a * loss for a, loss in zip(alpha, losses, strict=True))
    expected = torch.autograd.grad(total, reference.shared_parameters(), retain_graph=True)
    torch.testing.assert_close(found["shared"], list(expected), rtol=1e-9, atol=1e-13)
    for k, loss in enumerate(losses):
        own = torch.autograd.grad(loss, reference.task_parameters(k), retain_graph=True)
        factor = 1.0 if head_gradients == "own" else alpha[k]
        torch.testing.assert_close(found["heads"][k], [factor * g for g in own], rtol=1e-9, atol=1e-13)


def test_8_own_head_steps_do_not_depend_on_alpha():
    """8: with `own`, heads receive the same gradient whatever the weights."""
    batch = make_batches(count=1)[0]
    heads = [
        gradients_of_a_step(GradientStrategy(aggregator), make_objective(), batch)[0]["heads"]
        for aggregator in (MGDA(), Constant(0.0), Constant(5.0))
    ]
    for other in heads[1:]:
        for mine, theirs in zip(heads[0], other, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(mine, theirs, strict=True))


class TwoBranches(nn.Module):
    """Two feature tensors of different widths; `nested` makes the second a function of the first."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4 if nested else 5, 3)
        self.nested = nested
        self.out_features = 7

    def forward(self, inputs):
        z1 = torch.tanh(self.first(inputs))
        return z1, torch.tanh(self.second(z1 if self.nested else inputs))


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 3)

    def forward(self, features):
        return self.linear(torch.cat(features, dim=1))


def branches(nested=False):
    torch.manual_seed(3)
    model = MultiTaskModel(TwoBranches(nested), {task: Both() for task in "abc"}).to(torch.float64)
    return make_objective(specs=[make_spec(task) for task in "abc"], model=model)


def test_nested_features_are_refused():
    """A feature that is computed from another one: its gradient already holds the other's path."""
    objective = branches(nested=True)
    assert not objective.exposes_features
    with pytest.raises(RequirementError, match="one of its features is computed from another"):
        build_strategy("mgda_ub").setup(objective, adam, torch.Generator())


@pytest.mark.parametrize("every", [1, 2])
def test_several_features(every):
    """A representation of several tensors: weights of 1 give the summed loss, and the Gramian is over all of them."""
    batches = make_batches(count=4)
    objective, plain = branches(), branches()
    assert objective.exposes_features
    assert len(objective.evaluate(batches[0]).features) == 2
    train(GradientStrategy(Constant(1.0), level="features", weights_every=every), objective, batches, adam)
    train(build_strategy("uniform"), plain, batches, adam)
    assert distance(parameters_of(objective), parameters_of(plain)) < 1e-12


@pytest.mark.parametrize("axis", ["kept", "summed"])
def test_gramian_over_several_features(axis):
    """MGDA-UB on two feature tensors is MGDA-UB on their concatenation."""
    objective, batch = branches(), make_batches(count=1)[0]
    z = [part.detach().requires_grad_() for part in objective.model.backbone(batch.inputs)]
    rows = []
    for spec in objective.specs:
        parts = torch.autograd.grad(spec.loss(objective.model.heads[spec.name](z), batch.targets[spec.name]), z)
        rows.append(torch.cat([p.flatten() if axis == "kept" else p.sum(0) for p in parts]))
    evaluation = objective.evaluate(batch)
    found = FeatureJacobian(objective, axis).measure(evaluation, [None] * 3)
    torch.testing.assert_close(found, torch.stack(rows) @ torch.stack(rows).T, rtol=1e-10, atol=1e-14)
