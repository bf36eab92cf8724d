"""PCGrad in coefficients against Algorithm 1 on vectors."""

import pytest
import torch

from mtl.aggregation import PCGrad
from mtl.aggregation.pcgrad import project
from mtl.errors import ConfigError


def literal(jacobian, orders):
    """Algorithm 1 of Yu et al. 2020 on vectors."""
    total = torch.zeros_like(jacobian[0])
    conflicts = 0
    for i, own in enumerate(jacobian):
        vector = own.clone()
        for j in orders[i].tolist():
            square = jacobian[j] @ jacobian[j]
            inner = vector @ jacobian[j]
            if j != i and inner < 0 and square > 0:
                vector = vector - inner / square * jacobian[j]
                conflicts += 1
        total = total + vector
    return total, conflicts


def random_orders(m, generator):
    return torch.stack([torch.randperm(m, generator=generator) for _ in range(m)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("m", range(2, 13))
def test_coefficients_are_the_algorithm(m, dtype):
    generator = torch.Generator().manual_seed(m)
    for kind in ("random", "zero", "duplicate", "opposite", "scales"):
        jacobian = torch.randn(m, 2 * m, generator=generator, dtype=dtype)
        if kind == "zero":
            jacobian[m // 2] = 0
        if kind == "duplicate":
            jacobian[0] = jacobian[-1]
        if kind == "opposite":
            jacobian[0] = -jacobian[-1]
        if kind == "scales":
            jacobian *= 10.0 ** (2 * torch.rand(m, 1, generator=generator, dtype=dtype) - 1)
        orders = random_orders(m, generator)
        expected, conflicts = literal(jacobian, orders)
        weights, counted = project((jacobian @ jacobian.T).double(), orders)
        tolerance = (1e-10 if dtype is torch.float64 else 1e-6) * jacobian.double().norm()
        difference = (jacobian.double().T @ weights - expected.double()).norm()
        assert difference <= tolerance
        if kind == "random":
            assert counted == conflicts
            assert m < 4 or counted > 0


def test_two_tasks_closed_form():
    """Conflict: w_1 = 1 - a.b / a.a, w_2 = 1 - a.b / b.b; the result conflicts with neither task."""
    jacobian = torch.tensor([[1.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    weights, conflicts = project(gramian, torch.tensor([[0, 1], [1, 0]]))
    torch.testing.assert_close(weights, torch.tensor([1 + 2.0, 1 + 2.0 / 5], dtype=torch.float64))
    assert conflicts == 2
    assert (jacobian @ (jacobian.T @ weights) >= -1e-12).all()


def test_order_matters_and_is_followed():
    """Task 0 meets 1 then 2, or 2 then 1: two different hand-computed results."""
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -0.5]], dtype=torch.float64)
    results = []
    for first in ([0, 1, 2], [0, 2, 1]):
        orders = torch.tensor([first, [1, 0, 2], [2, 0, 1]])
        weights, _ = project(jacobian @ jacobian.T, orders)
        expected, _ = literal(jacobian, orders)
        torch.testing.assert_close(jacobian.T @ weights, expected)
        results.append(weights)
    assert (results[0] - results[1]).abs().max() > 1e-3


def test_no_conflict_is_the_sum():
    jacobian = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    aggregator = PCGrad()
    aggregator.setup(5, torch.Generator().manual_seed(0))
    assert aggregator(jacobian @ jacobian.T, torch.ones(5)).tolist() == [1.0] * 5
    assert aggregator.diagnostics == {"conflicts": 0.0}


def conflicting(m=6):
    jacobian = torch.randn(m, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return jacobian @ jacobian.T


def test_orders_come_from_the_generator():
    gramian, losses = conflicting(), torch.ones(6)

    def run(seed):
        aggregator = PCGrad()
        aggregator.setup(6, torch.Generator().manual_seed(seed))
        return torch.stack([aggregator(gramian, losses) for _ in range(3)])

    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))
    assert not torch.equal(first[0], first[1])


def test_an_order_of_its_own_for_each_task():
    """One order for all tasks (as in SamsungLabs' code) would draw one permutation a step."""
    generator = torch.Generator().manual_seed(4)
    aggregator = PCGrad()
    aggregator.setup(6, generator)
    found = aggregator(conflicting(), torch.ones(6))
    expected, _ = project(conflicting(), random_orders(6, torch.Generator().manual_seed(4)))
    assert torch.equal(found, expected)


def test_fixed_order_is_the_order_of_the_tasks_and_draws_nothing():
    aggregator, generator = PCGrad(order="fixed"), torch.Generator().manual_seed(0)
    aggregator.setup(6, generator)
    before = generator.get_state()
    expected, conflicts = project(conflicting(), torch.arange(6).expand(6, 6))
    assert conflicts > 0
    assert torch.equal(aggregator(conflicting(), torch.ones(6)), expected)
    assert torch.equal(before, generator.get_state())


def test_mean_is_the_sum_over_m():
    results = {}
    for reduce in ("sum", "mean"):
        aggregator = PCGrad(reduce=reduce)
        aggregator.setup(6, torch.Generator().manual_seed(0))
        results[reduce] = aggregator(conflicting(), torch.ones(6))
    torch.testing.assert_close(results["mean"], results["sum"] / 6)


def test_a_square_that_underflows_is_no_division_by_zero():
    jacobian = torch.tensor([[1.0, 0.0], [-1e-170, 0.0]], dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    assert gramian[1, 1] == 0
    assert gramian[0, 1] < 0
    weights, conflicts = project(gramian, torch.tensor([[0, 1], [1, 0]]))
    assert weights.tolist() == pytest.approx([1.0, 1.0])
    assert conflicts == 1


def test_leaves_the_gramian_alone():
    gramian = conflicting()
    before = gramian.clone()
    project(gramian, random_orders(6, torch.Generator().manual_seed(0)))
    assert torch.equal(before, gramian)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="reduce"):
        PCGrad(reduce="max")
    with pytest.raises(ConfigError, match="order"):
        PCGrad(order="shuffled")
