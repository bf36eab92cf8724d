"""SDMGrad against a loop with torch's SGD, and against the limits that its equation has."""

import pytest
import torch

from mtl.aggregation import SDMGrad
from mtl.aggregation.solvers import active_set
from mtl.errors import ConfigError
from tests.unit.aggregation.test_modo import pairs
from tests.unit.aggregation.test_simplex import by_bisection


def make(m=3, **options):
    aggregator = SDMGrad(**options)
    aggregator.setup(m)
    return aggregator


def reference(steps, regularization, iterations, lr, momentum, normalize):
    """A new optimizer a step, the old weights."""
    w, used = torch.full((3,), 1 / 3, dtype=torch.float64), []
    for first, second in steps:
        cross = first @ second.T
        if normalize:
            roots = [max(cross[k, k].item(), 0.0) ** 0.5 for k in range(3)]
            cross = cross / (sum(roots) / 3) ** 2
        trained = torch.nn.Parameter(w.clone())
        optimizer = torch.optim.SGD([trained], lr=lr, momentum=momentum)
        for _ in range(iterations):
            trained.grad = cross @ trained.detach() + regularization * cross.mean(dim=1)
            optimizer.step()
            trained.data.copy_(by_bisection(trained.data))
        w = trained.detach()
        used.append((w + regularization / 3) / (1 + regularization))
    return used


@pytest.mark.parametrize("options", [(0.3, 20, 10.0, 0.5, True), (0.6, 5, 5.0, 0.0, True), (0.0, 3, 0.1, 0.9, False)])
def test_steps_against_torchs_sgd(options):
    regularization, iterations, lr, momentum, normalize = options
    normalization = "mean_norm" if normalize else "none"
    aggregator = make(
        regularization=regularization, iterations=iterations, lr=lr, momentum=momentum, normalization=normalization
    )
    steps = [(first, first + 0.5 * second) for first, second in pairs(seed=5)]  # positive diagonals
    for (first, second), expected in zip(steps, reference(steps, *options), strict=True):
        torch.testing.assert_close(aggregator(first @ second.T), 3 * expected, rtol=0, atol=1e-7)


def test_total():
    first, second = next(pairs())
    one, many = (make(total=total)(first @ second.T) for total in ("one", "num_tasks"))
    assert one.sum().item() == pytest.approx(1)
    torch.testing.assert_close(many, 3 * one)


def test_without_regularization_it_finds_the_min_norm_weights():
    for jacobian, _ in pairs(3, seed=3):
        gramian = jacobian @ jacobian.T
        found = make(regularization=0.0, iterations=2000, lr=0.2, momentum=0.0, total="one")(gramian)
        torch.testing.assert_close(found, active_set(gramian).weights, rtol=0, atol=1e-6)


def test_with_much_of_it_the_direction_is_the_average():
    first, second = next(pairs())
    found = make(regularization=1e4, total="one")(first @ second.T)
    assert found.tolist() == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_the_direction_solves_the_regularised_problem():
    """One sample, many small steps: w minimises |J^T (w + lambda/m)|^2 over the simplex, by its KKT conditions."""
    for jacobian, _ in pairs(3, seed=9):
        gramian, lam = jacobian @ jacobian.T, 0.3
        aggregator = make(regularization=lam, iterations=2000, lr=0.2, momentum=0.0)
        aggregator(gramian)
        w = aggregator.weights
        slope = gramian @ (w + lam / 3)
        assert slope[w > 1e-6].max() <= slope.min() + 1e-6


def test_normalised_it_is_free_of_scale():
    first, second = next(pairs())
    torch.testing.assert_close(make()(first @ second.T), make()(1e6 * first @ second.T), rtol=0, atol=1e-6)


def test_a_diagonal_without_a_positive_entry_is_counted():
    cross = torch.tensor([[-1.0, 0.5], [0.5, -2.0]], dtype=torch.float64)
    aggregator = make(2)
    found = aggregator(cross)
    assert torch.isfinite(found).all()
    assert aggregator.diagnostics["unscaled_total"] == 1
    assert torch.equal(found, make(2, normalization="none")(cross))
    aggregator(-cross)
    assert aggregator.diagnostics["unscaled_total"] == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("regularization", -1.0),
        ("iterations", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("normalization", "max"),
        ("total", "two"),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        SDMGrad(**{option: value})
