"""Dynamic task prioritization: the paper's weights on our KPIs, by plain floats."""

import math

import pytest
import torch

from mtl.errors import ConfigError, NonFiniteError
from mtl.weighting import DTP

STEPS = [[2.0, 0.5, 0.0], [1.0, 0.7, 0.1], [0.2, 0.9, 3.0]]


def make(m=3, **options):
    weighting = DTP(**options)
    weighting.setup(tuple("abcd"[:m]), ("classification",) * m, torch.Generator())
    return weighting


def focal(kappa, gamma):
    return -((1 - kappa) ** gamma) * math.log(kappa)


@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("gammas", [[2.0, 2.0, 2.0], [0.0, 1.0, 0.5]])
def test_three_steps(alpha, gammas):
    weighting = make(alpha=alpha, gamma=gammas)
    average = None
    for losses in STEPS:
        kappa = [math.exp(-loss) for loss in losses]
        average = (
            kappa if average is None else [alpha * k + (1 - alpha) * a for k, a in zip(kappa, average, strict=True)]
        )
        found = weighting.weigh(torch.tensor(losses, dtype=torch.float64))
        assert found.tolist() == pytest.approx([focal(k, g) for k, g in zip(average, gammas, strict=True)], rel=1e-9)
    assert weighting.diagnostics == {"kpi_limited_total": 0.0}


def test_harder_is_heavier_and_perfect_is_nothing():
    weights = make(4).weigh(torch.tensor([0.0, 0.5, 1.0, 5.0])).tolist()
    assert weights[0] == 0
    assert weights == sorted(weights)


def test_exp_ratio_is_free_of_scale():
    weightings = [make(kpi="exp_ratio", alpha=0.5) for _ in range(2)]
    for losses in [[2.0, 0.5, 1.0], *STEPS[1:]]:
        first, second = (w.weigh(f * torch.tensor(losses)) for w, f in zip(weightings, (1.0, 64.0), strict=True))
        torch.testing.assert_close(first, second)
    assert (first - first[0]).abs().max() > 0.01
    with pytest.raises(NonFiniteError, match=r"> 0 in the first step. Found c = 0.0"):
        make(kpi="exp_ratio").weigh(torch.tensor(STEPS[0]))


def test_the_limit_acts_and_is_counted():
    weighting = make(2, minimum=1e-3, gamma=0.0)
    weights = weighting.weigh(torch.tensor([1e6, 1.0])).tolist()
    assert weights == pytest.approx([math.log(1e3), 1.0], rel=1e-6)
    assert weighting.diagnostics == {"kpi_limited_total": 1.0}


def test_resume():
    straight, first, second = (make(kpi="exp_ratio") for _ in range(3))
    steps = [torch.tensor(losses) + 0.1 for losses in STEPS]
    expected = [straight.weigh(losses) for losses in steps]
    first.weigh(steps[0])
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(second.weigh(losses), w) for losses, w in zip(steps[1:], expected[1:], strict=True))


def test_negative_losses():
    with pytest.raises(NonFiniteError, match=r"DTP is defined for losses >= 0. Found b = -1.0"):
        make().weigh(torch.tensor([1.0, -1.0, 0.0]))


@pytest.mark.parametrize(
    ("option", "value"), [("kpi", "accuracy"), ("alpha", 0.0), ("alpha", 1.5), ("gamma", -1.0), ("minimum", 0.0)]
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        DTP(**{option: value})
