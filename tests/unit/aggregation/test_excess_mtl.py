"""ExcessMTL: weights from excess risks, against plain loops and torchjd."""

import math

import pytest
import torch

from mtl.aggregation import ExcessMTL
from mtl.errors import ConfigError
from tests.problems import adam, build_strategy, distance, make_batches, make_objective, parameters_of, train
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian
from tests.unit.aggregation.rows import ready, seen


def literal(sequence, lr, warmup, total):
    m, n = sequence[0].shape
    squares, w, start, found = [[0.0] * n for _ in range(m)], [1.0] * m, [0.0] * m, []
    for t, rows in enumerate(sequence, start=1):
        excess = []
        for k, g in enumerate(rows.tolist()):
            squares[k] = [s + x * x for s, x in zip(squares[k], g, strict=True)]
            excess.append(sum(x * x / math.sqrt(s + 1e-7) for s, x in zip(squares[k], g, strict=True)))
        if t <= warmup:
            start = [a + e / warmup for a, e in zip(start, excess, strict=True)]
        else:
            w = [a * math.exp(lr * e / s) for a, e, s in zip(w, excess, start, strict=True)]
            w = [m * a / sum(w) for a in w]
        found.append(torch.tensor([a * total / m for a in w], dtype=torch.float64))
    return found


def weights(method, sequence):
    return [method.aggregate(seen(rows)).weights for rows in sequence]


@pytest.mark.parametrize(("lr", "warmup"), [(0.01, 1), (1.0, 1), (0.5, 3)])
@pytest.mark.parametrize(("total", "value"), [("num_tasks", 3.0), ("one", 1.0)])
def test_the_literal_definition(lr, warmup, total, value):
    sequence = [jacobian(3, 7, seed, scale=1.0) for seed in range(6)]
    found = weights(ready(ExcessMTL(lr, warmup, total), sequence[0]), sequence)
    for mine, expected in zip(found, literal(sequence, lr, warmup, value), strict=True):
        torch.testing.assert_close(mine, expected)
    assert (found[-1] - found[0]).abs().max() > 1e-4


def test_without_steps_it_is_uniform():
    results = []
    for strategy in (build_strategy("excess_mtl", "strategy.aggregator.lr=0.0"), build_strategy("uniform")):
        objective = make_objective()
        train(strategy, objective, make_batches(), adam)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_a_task_far_from_its_optimum_gains():
    """Equal starts; then one gradient grows and the others vanish."""
    rows = torch.eye(3, dtype=torch.float64)
    method = ready(ExcessMTL(lr=0.1), rows)
    later = rows * torch.tensor([10.0, 0.01, 0.01], dtype=torch.float64)[:, None]
    found = weights(method, [rows, *[later] * 5])[-1]
    assert found[0] > 1.1
    assert found[1].item() == pytest.approx(found[2].item())


def test_torchjd():
    """Theirs has an additional first step, by the undivided excess."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    sequence = [jacobian(3, 7, seed) for seed in range(5)]
    theirs, mine = (
        aggregation.ExcessMTLWeighting(robust_step_size=0.05),
        ready(ExcessMTL(0.05, total="one"), sequence[0]),
    )
    ratios = [theirs(rows) / mine.aggregate(seen(rows)).weights for rows in sequence]
    for ratio in ratios:  # the same but for that step's factors
        torch.testing.assert_close(ratio / ratio.sum(), ratios[0] / ratios[0].sum(), rtol=1e-5, atol=1e-7)
    assert (ratios[0] - 1).abs().max() > 1e-3


@pytest.mark.parametrize("name", [key for key in DEGENERATE if key != "float32"])
def test_degenerate_rows(name):
    rows = DEGENERATE[name]
    for found in weights(ready(ExcessMTL(lr=1.0), rows), [rows, torch.zeros_like(rows), 1e6 * rows, rows]):
        assert torch.isfinite(found).all()
        assert found.sum().item() == pytest.approx(len(rows))


def test_huge_excesses_do_not_overflow():
    rows = jacobian(3, 5)
    for found in weights(ready(ExcessMTL(lr=100.0), rows), [1e-9 * rows, *[1e9 * rows] * 4]):
        assert torch.isfinite(found).all()


def test_a_state_continues():
    sequence = [jacobian(3, 7, seed) for seed in range(6)]
    first, second = ready(ExcessMTL(1.0, 2), sequence[0]), ready(ExcessMTL(1.0, 2), sequence[0])
    weights(first, sequence[:3])
    second.load_state_dict(first.state_dict())
    for mine, expected in zip(weights(second, sequence[3:]), weights(first, sequence[3:]), strict=True):
        assert torch.equal(mine, expected)


def test_options_are_checked():
    for options in ({"lr": -1.0}, {"warmup_steps": 0}, {"total": "mean"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            ExcessMTL(**options)
    for level in ("features", "last_layer"):
        with pytest.raises(ConfigError, match="not defined at"):
            build_strategy("excess_mtl", f"strategy.level={level}")
