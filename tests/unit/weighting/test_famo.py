"""FAMO against autograd and torch's own optimizers, and the second forward that it needs."""

import pytest
import torch
from torch import nn

from mtl.aggregation import PCGrad
from mtl.errors import ConfigError, NonFiniteError, RequirementError
from mtl.grouping import Singletons
from mtl.objective import MultiTaskObjective
from mtl.strategies import GradientStrategy, LossWeightingStrategy, SequentialStrategy
from mtl.weighting import FAMO
from tests.problems import make_batches, make_model, make_objective, sgd


def make(m=3, **options):
    weighting = FAMO(**options)
    weighting.setup(tuple("abcd"[:m]), ("regression",) * m, torch.Generator())
    return weighting


def pairs(count=6, m=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        before = torch.rand(m, dtype=torch.float64, generator=generator) + 0.5
        yield before, before * (0.5 + torch.rand(m, dtype=torch.float64, generator=generator))


def test_weights_by_hand():
    """Logits 0, losses (1, 2, 4): z / L ~ (1, 1/2, 1/4), sum 7/4: weights (4, 2, 1) / 7."""
    losses = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert make().weigh(losses).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert make(total="num_tasks").weigh(losses).tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    shifted = make(min_losses=[0.5, 1.0, 2.0]).weigh(losses)
    assert shifted.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_weights_are_the_derivative_of_the_scalar():
    """c sum_k z_k log D_k with c held constant."""
    weighting = make(min_losses=0.1)
    with torch.no_grad():
        weighting.logits.copy_(torch.tensor([0.3, -1.0, 0.5]))
    losses = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    excess = losses - 0.1 + 1e-8
    z = torch.softmax(weighting.logits.detach(), 0)
    scalar = (z * excess.log()).sum() / (z / excess).sum().detach()
    torch.testing.assert_close(weighting.weigh(losses.detach()), torch.autograd.grad(scalar, losses)[0])


def test_one_sgd_step_by_hand():
    """z = 1/2 each, changes (log 2, 0): J^T d = (log 2 / 4, -log 2 / 4); lr 0.4, no decay: logits (-, +) log 2 / 10."""
    weighting = make(2, rule="sgd", lr=0.4, weight_decay=0.0, epsilon=1e-30)
    weighting.weigh(torch.tensor([2.0, 1.0]))
    weighting.observe_after(torch.tensor([1.0, 1.0]))
    step = 0.1 * torch.tensor(2.0, dtype=torch.float64).log().item()
    assert weighting.logits.tolist() == pytest.approx([-step, step])


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5])
def test_steps_against_autograd(rule, gamma):
    """The gradient of <softmax(xi), delta> by autograd, the paper's gamma by hand in it, torch's optimizer."""
    weighting = make(rule=rule, weight_decay=gamma)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]([logits], lr=0.025)
    for before, after in pairs():
        z = torch.softmax(logits.detach(), 0)
        raw = z / (before + 1e-8)
        torch.testing.assert_close(weighting.weigh(before), raw / raw.sum())
        weighting.observe_after(after)
        delta = torch.log(before + 1e-8) - torch.log(after + 1e-8)
        optimizer.zero_grad()
        ((torch.softmax(logits, 0) * delta).sum() + gamma / 2 * (logits**2).sum()).backward()
        optimizer.step()
        torch.testing.assert_close(weighting.logits.detach(), logits.detach(), rtol=1e-10, atol=1e-13)
    assert logits.detach().abs().max() > 1e-3
    assert weighting.logits.grad is None


def test_resume():
    straight, first, second = (make() for _ in range(3))
    steps = list(pairs(8))
    for index, (before, after) in enumerate(steps):
        if index == 4:
            second.load_state_dict(first.state_dict())
        for weighting in (straight, first if index < 4 else second):
            weighting.weigh(before)
            weighting.observe_after(after)
    assert torch.equal(straight.logits, second.logits)


def test_losses_below_the_minimum():
    weighting = make(2, min_losses={"a": 0.5, "b": 0.0})
    assert weighting.weigh(torch.tensor([0.5, 1.0])).isfinite().all()
    with pytest.raises(NonFiniteError, match=r">= `min_losses`. Found a = 0.25"):
        weighting.weigh(torch.tensor([0.25, 1.0]))
    with pytest.raises(NonFiniteError, match=r"Found b = -1.0"):
        weighting.observe_after(torch.tensor([0.5, -1.0]))


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr", 0.0), ("weight_decay", -1.0), ("rule", "lion"), ("min_losses", "x"), ("epsilon", 0.0), ("total", "two")],
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        FAMO(**{option: value})


class Recorder(FAMO):
    """Keeps what the strategy shows it."""

    def weigh(self, losses):
        self.seen = [losses.clone()]
        return super().weigh(losses)

    def observe_after(self, losses):
        self.seen.append(losses.clone())
        super().observe_after(losses)


def dropout_objective():
    """Dropout in the trunk and in the heads, and a BatchNorm."""
    model = make_model(("a", "b", "c"), batch_norm=True)
    model.backbone.last = nn.Sequential(model.backbone.last, nn.Dropout(0.5))
    for task in ("a", "b", "c"):
        model.heads[task] = nn.Sequential(nn.Dropout(0.5), model.heads[task])
    return make_objective(model=model.double().train())


def start(make_optimizer=sgd):
    objective, strategy = dropout_objective(), LossWeightingStrategy(Recorder())
    strategy.setup(objective, make_optimizer, torch.Generator().manual_seed(0))
    return objective, strategy


def test_the_second_forward_repeats_the_masks():
    """Without movement both forwards give the same bits; other masks give other losses."""
    objective, strategy = start(lambda groups: torch.optim.SGD(groups, lr=0.0))
    torch.manual_seed(5)
    for batch in make_batches():
        strategy.step(batch)
        before, after = strategy.weighting.seen
        assert torch.equal(before, after)
        assert not torch.equal(before, objective.measure(batch))


def test_the_global_generator_moves_by_one_forward():
    (_, strategy), plain = start(), dropout_objective()
    for batch in make_batches(count=3):
        torch.manual_seed(5)
        plain.evaluate(batch)
        expected = torch.get_rng_state()
        torch.manual_seed(5)
        strategy.step(batch)
        assert torch.equal(torch.get_rng_state(), expected)


def test_the_second_losses_stay_out_of_the_report_and_statistics_move_once():
    objective, strategy = start()
    batch = make_batches(count=1)[0]
    report = strategy.step(batch)
    before, after = strategy.weighting.seen
    assert torch.equal(report.losses, before)
    assert not torch.equal(before, after)
    assert report.cost.forwards == 2
    assert objective.model.backbone.norm.num_batches_tracked == 1


def test_the_state_of_the_generator_survives_an_error(monkeypatch):
    _, strategy = start()

    def fail(self, batch):
        torch.rand(100)
        raise NonFiniteError("no")

    batch = make_batches(count=1)[0]
    monkeypatch.setattr(MultiTaskObjective, "measure", fail)
    torch.manual_seed(5)
    with pytest.raises(NonFiniteError):
        strategy.step(batch)
    found = torch.get_rng_state()
    plain = dropout_objective()
    torch.manual_seed(5)
    plain.evaluate(batch)
    assert torch.equal(found, torch.get_rng_state())


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: GradientStrategy(PCGrad(), weighting=FAMO()),
        lambda: SequentialStrategy(Singletons(), weighting=FAMO()),
    ],
)
def test_strategies_that_do_not_measure_after_refuse_it(strategy):
    with pytest.raises(RequirementError, match=r"FAMO needs the losses after the update, which \w+Strategy does not"):
        strategy().setup(make_objective(), sgd, torch.Generator().manual_seed(0))


def test_logits_are_no_parameters_of_the_main_optimizer():
    _, strategy = start()
    held = {id(p) for group in strategy.optimizers[0].param_groups for p in group["params"]}
    assert id(strategy.weighting.logits) not in held
