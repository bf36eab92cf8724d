"""GradVac: its literal twin in vectors, its averages, and what it shares with PCGrad."""

import pytest
import torch

from mtl.aggregation import GradVac
from mtl.aggregation.pcgrad import project
from mtl.errors import ConfigError
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian, weigh


def ready(m, seed=0, **options):
    method = GradVac(**options)
    method.setup(m, torch.Generator().manual_seed(seed))
    return method


def literal(rows, orders, average, beta):
    """Algorithm 1 of the paper with vectors and loops; changes `average`."""
    total = torch.zeros_like(rows[0])
    for i, order in enumerate(orders.tolist()):
        g = rows[i].clone()
        for j in order:
            if i == j:
                continue
            phi = g @ rows[j] / (g.norm() * rows[j].norm())
            target = average[i, j].clone()
            if phi < target:
                top = g.norm() * (target * (1 - phi**2).sqrt() - phi * (1 - target**2).sqrt())
                g = g + top / (rows[j].norm() * (1 - target**2).sqrt()) * rows[j]
                assert (g @ rows[j] / (g.norm() * rows[j].norm())).item() == pytest.approx(target.item(), abs=1e-9)
            average[i, j] = (1 - beta) * target + beta * phi
        total += g
    return total


@pytest.mark.parametrize("m", [2, 3, 6])
@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0])
def test_is_the_algorithm_step_by_step(m, beta):
    method, average = ready(m, beta=beta), torch.zeros(m, m, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    raised = 0
    for step in range(12):
        rows = jacobian(m, 9, 100 * m + step, scale=0.5, shift=0.3 * (step % 3))
        orders = torch.stack([torch.randperm(m, generator=generator) for _ in range(m)])
        weights, count = method.vaccinate(rows @ rows.T, orders)
        torch.testing.assert_close(rows.T @ weights, literal(rows, orders, average, beta), rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(method.average, average, rtol=1e-9, atol=1e-11)
        raised += count
    assert raised > 0


def test_every_pair_is_averaged_every_step():
    """Gradients that never conflict: the averages move all the same, and later raise cosines above 0."""
    method = ready(3, beta=0.5)
    rows = jacobian(3, 9, 0).abs()
    weigh_once = method(rows @ rows.T, torch.ones(3))
    assert weigh_once.tolist() == [1, 1, 1]
    off = ~torch.eye(3, dtype=torch.bool)
    assert (method.average[off] > 0).all()
    assert method.average.diagonal().tolist() == [0, 0, 0]
    only = ready(3, beta=0.5, update="violation")
    only(rows @ rows.T, torch.ones(3))
    assert (only.average == 0).all()
    orthogonal = torch.eye(3, dtype=torch.float64)
    assert method(orthogonal, torch.ones(3)).min() > 1
    assert only(orthogonal, torch.ones(3)).tolist() == [1, 1, 1]


def test_the_first_step_is_pcgrad():
    """Averages of 0 that do not move: raise a negative cosine to 0."""
    rows = jacobian(5, 9, 1)
    orders = torch.stack([torch.randperm(5, generator=torch.Generator().manual_seed(i)) for i in range(5)])
    weights, raised = ready(5, beta=0.0).vaccinate(rows @ rows.T, orders)
    expected, conflicts = project(rows @ rows.T, orders)
    torch.testing.assert_close(weights, expected)
    assert raised == conflicts > 0


def test_orders_come_from_the_generator():
    rows = jacobian(6, 9, 1)
    gramian, losses = rows @ rows.T, torch.ones(6)
    assert torch.equal(ready(6, 1)(gramian, losses), ready(6, 1)(gramian, losses))
    assert not torch.equal(ready(6, 1)(gramian, losses), ready(6, 2)(gramian, losses))
    torch.testing.assert_close(ready(6, 1)(gramian, losses), 6 * ready(6, 1, reduce="mean")(gramian, losses))


def test_averages_are_in_the_state():
    first, second = ready(4, beta=0.5), ready(4, beta=0.5)
    rows = jacobian(4, 9, 1)
    first(rows @ rows.T, torch.ones(4))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.average, second.average)
    assert (second.average != 0).any()


def test_an_average_of_one_is_passed_over_and_counted():
    method = ready(2, beta=1.0)
    same = torch.ones(2, 2, dtype=torch.float64)
    method(same, torch.ones(2))
    assert method.average[0, 1] == 1
    weights = method(torch.eye(2, dtype=torch.float64), torch.ones(2))
    assert weights.tolist() == [1, 1]
    assert method.diagnostics["skipped_total"] == 2


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(kind):
    rows = DEGENERATE[kind]
    method = ready(len(rows), beta=0.5)
    for _ in range(5):
        assert torch.isfinite(method(rows @ rows.T, torch.ones(len(rows)))).all()
    assert torch.isfinite(method.average).all()


def test_one_task():
    assert weigh(GradVac(), DEGENERATE["one"]).tolist() == [1.0]


@pytest.mark.parametrize("options", [{"beta": 2}, {"update": "never"}, {"reduce": "max"}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        GradVac(**options)
