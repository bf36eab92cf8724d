"""GradNorm against a step written with autograd and torch's own optimizers."""

import pytest
import torch

from mtl.aggregation import GradNorm
from mtl.errors import ConfigError, NonFiniteError
from mtl.strategies import GradientStrategy
from tests.problems import make_batches, make_objective, train


def make(m=3, **options):
    aggregator = GradNorm(**options)
    aggregator.setup(m, torch.Generator())
    return aggregator


def problems(count=5, m=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        jacobian = torch.randn(m, 4, dtype=torch.float64, generator=generator)
        yield jacobian, torch.rand(m, dtype=torch.float64, generator=generator) + 0.1


def reference(steps, rule, alpha, lr):
    """Algorithm 1: L_grad by autograd with the target held constant, then the optimizer, then renormalised."""
    weights, initial, optimizer = None, None, None
    used = []
    for jacobian, losses in steps:
        if weights is None:
            initial = losses
            weights = torch.ones(len(losses), dtype=torch.float64, requires_grad=True)
            optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]([weights], lr=lr)
        used.append(weights.detach().clone())
        norms = torch.stack([(weights[k] * jacobian[k]).norm() for k in range(len(losses))])
        ratio = losses / initial
        target = (norms.mean() * (ratio / ratio.mean()) ** alpha).detach()
        optimizer.zero_grad()
        (norms - target).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            weights *= len(losses) / weights.sum()
    return used


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.12, 0.05), (0.0, 0.01)])
def test_steps_by_hand(rule, alpha, lr):
    aggregator = make(rule=rule, alpha=alpha, lr=lr)
    found = [aggregator(jacobian @ jacobian.T, losses) for jacobian, losses in problems()]
    expected = reference(problems(), rule, alpha, lr)
    assert found[0].tolist() == [1.0, 1.0, 1.0]
    for mine, hand in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, hand, rtol=1e-12, atol=1e-12)
    assert (found[-1] - 1).abs().max() > 1e-3
    assert aggregator.diagnostics["clamped_total"] == 0


def test_one_sgd_step_in_numbers():
    """Norms 3 and 1, equal rates: target 2, signs (+, -), gradient (3, -1); w = (1 - 0.3, 1 + 0.1) * 2 / 1.8."""
    aggregator = make(2, rule="sgd", lr=0.1)
    gramian = torch.diag(torch.tensor([9.0, 1.0], dtype=torch.float64))
    losses = torch.ones(2, dtype=torch.float64)
    aggregator(gramian, losses)
    assert aggregator.diagnostics["gradnorm_loss"] == pytest.approx(2.0)
    assert aggregator(gramian, losses).tolist() == pytest.approx([0.7 * 2 / 1.8, 1.1 * 2 / 1.8])


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_weights_sum_to_m(rule):
    aggregator = make(3, rule=rule, lr=0.3)
    for jacobian, losses in problems(30):
        weights = aggregator(jacobian @ jacobian.T, losses)
        assert weights.sum().item() == pytest.approx(3, abs=1e-12)
        assert (weights > 0).all()


def test_the_minimum_clamps_and_counts():
    """SGD with lr 1: w = (1 - 3, 1 + 1) -> (0.001, 2), renormalised."""
    aggregator = make(2, rule="sgd", lr=1.0, minimum=1e-3)
    gramian = torch.diag(torch.tensor([9.0, 1.0], dtype=torch.float64))
    losses = torch.ones(2, dtype=torch.float64)
    aggregator(gramian, losses)
    assert aggregator.diagnostics["clamped_total"] == 1
    assert aggregator(gramian, losses).tolist() == pytest.approx([0.002 / 2.001, 4 / 2.001])


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_first_losses_have_to_be_positive(bad):
    losses = torch.tensor([1.0, bad, 1.0], dtype=torch.float64)
    with pytest.raises(NonFiniteError, match="first step"):
        make()(torch.eye(3, dtype=torch.float64), losses)


def test_a_later_loss_of_zero_is_allowed():
    aggregator = make()
    gramian = torch.eye(3, dtype=torch.float64)
    aggregator(gramian, torch.ones(3, dtype=torch.float64))
    for losses in ([1.0, 0.0, 1.0], [1.0, -0.5, 1.0]):
        aggregator(gramian, torch.tensor(losses, dtype=torch.float64))
        assert torch.isfinite(aggregator.weights).all()


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_never_decayed(rule):
    """Zero gradients: nothing but decay could move the weights."""
    aggregator = make(rule=rule)
    assert all(group["weight_decay"] == 0 for group in aggregator.optimizer.param_groups)
    with torch.no_grad():
        aggregator.raw.copy_(torch.tensor([0.5, 1.0, 1.5]))
    for _ in range(5):
        aggregator(torch.zeros(3, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(aggregator.weights.detach(), torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64))


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_state_survives_a_round_trip(rule):
    steps = list(problems(8))
    whole, first, second = make(rule=rule, lr=0.3), make(rule=rule, lr=0.3), make(rule=rule, lr=0.3)
    expected = [whole(jacobian @ jacobian.T, losses) for jacobian, losses in steps]
    for jacobian, losses in steps[:4]:
        first(jacobian @ jacobian.T, losses)
    second.load_state_dict(first.state_dict())
    for (jacobian, losses), weights in zip(steps[4:], expected[4:], strict=True):
        assert torch.equal(second(jacobian @ jacobian.T, losses), weights)
    assert torch.equal(second.initial, steps[0][1])


def test_used_weights_are_a_copy_without_gradient():
    aggregator = make()
    used = aggregator(torch.diag(torch.tensor([9.0, 1.0, 4.0], dtype=torch.float64)), torch.ones(3).double())
    assert used.tolist() == [1.0, 1.0, 1.0]
    assert not used.requires_grad
    assert aggregator.raw.grad is None


@pytest.mark.parametrize(("option", "value"), [("alpha", -1.0), ("lr", 0.0), ("rule", "rmsprop"), ("minimum", 0.0)])
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        GradNorm(**{option: value})


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_softmax_parametrization_against_autograd(rule):
    """LibMTL's form: L_grad of w = m softmax(xi), differentiated by torch."""
    aggregator = make(rule=rule, lr=0.1, parametrization="softmax")
    xi = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]([xi], lr=0.1)
    initial = None
    for jacobian, losses in problems():
        initial = losses if initial is None else initial
        w = 3 * torch.softmax(xi, dim=0)
        torch.testing.assert_close(aggregator(jacobian @ jacobian.T, losses), w.detach(), rtol=1e-9, atol=1e-9)
        norms = (w[:, None] * jacobian).norm(dim=1)
        ratio = losses / initial
        target = (norms.mean() * (ratio / ratio.mean()) ** 1.5).detach()
        optimizer.zero_grad()
        (norms - target).abs().sum().backward()
        optimizer.step()
    assert (aggregator.weights - 1).abs().max() > 0.05


def test_reference_of_the_first_epoch():
    """Weights 1 in it; after it the steps are those from its mean losses."""
    epoch, later = list(problems(4)), list(problems(4, seed=1))
    mine, expected = make(reference="first_epoch"), make()
    for jacobian, losses in epoch:
        assert mine(jacobian @ jacobian.T, losses).tolist() == [1.0, 1.0, 1.0]
    mine.end_epoch()
    expected.initial.copy_(torch.stack([losses for _, losses in epoch]).mean(dim=0))
    for jacobian, losses in later:
        assert torch.equal(mine(jacobian @ jacobian.T, losses), expected(jacobian @ jacobian.T, losses))
        mine.end_epoch()  # later epochs change nothing
    assert (mine.weights - 1).abs().max() > 1e-3


def test_reference_of_the_first_epoch_survives_a_round_trip():
    first, second = make(reference="first_epoch"), make(reference="first_epoch")
    for jacobian, losses in problems(3):
        first(jacobian @ jacobian.T, losses)
    second.load_state_dict(first.state_dict())
    first.end_epoch()
    second.end_epoch()
    assert torch.equal(first.initial, second.initial)
    assert torch.isfinite(first.initial).all()


def test_a_strategy_ends_the_epoch_of_its_aggregator():
    strategies = [
        GradientStrategy(GradNorm(reference=name), level="last_layer") for name in ("first_epoch", "first_step")
    ]
    weights = [train(strategy, make_objective(), make_batches(), epoch=3) for strategy in strategies]
    assert [report.weights.tolist() for report in weights[0][:4]] == [[1.0] * 3] * 4
    assert weights[0][-1].weights.tolist() != [1.0] * 3
    assert weights[1][1].weights.tolist() != [1.0] * 3


@pytest.mark.parametrize(("option", "value"), [("parametrization", "log"), ("reference", "theoretical")])
def test_names_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        GradNorm(**{option: value})
