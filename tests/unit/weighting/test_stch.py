"""Smooth Tchebycheff: the equation, the warm-up, its limits, its range."""

import math

import pytest
import torch

from mtl.errors import ConfigError, NonFiniteError
from mtl.weighting import STCH

EPOCHS = [  # (steps, tasks)
    [[4.0, 1.0], [2.0, 1.0]],
    [[2.0, 0.5], [1.0, 0.5], [0.0625, 0.5]],  # means 1.0208333, 0.5
    [[0.5, 1.0]],
    [[1.0, 1.0], [1.0, 2.0]],
]


def make(m=2, **options):
    weighting = STCH(**options)
    weighting.setup(tuple("abcd"[:m]), ("regression",) * m, torch.Generator())
    return weighting


@pytest.mark.parametrize("mu", [1.0, 0.1])
def test_four_epochs_of_the_released_form(mu):
    """Epochs 0 and 1 train the sum of logs; epoch 1 is averaged; then m mu log sum (L / n)^(1/mu) by plain floats."""
    weighting = make(mu=mu, warmup_epochs=1)
    means = [3.0625 / 3, 0.5]
    for number, epoch in enumerate(EPOCHS):
        for losses in epoch:
            found = weighting.weigh(torch.tensor(losses, dtype=torch.float64)).tolist()
            if number < 2:
                expected = [1 / loss for loss in losses]
            else:
                parts = [(loss / n) ** (1 / mu) for loss, n in zip(losses, means, strict=True)]
                expected = [2 * part / sum(parts) / loss for part, loss in zip(parts, losses, strict=True)]
            assert found == pytest.approx(expected, rel=1e-9)
        assert weighting.warming_up == (number < 2)
        weighting.end_epoch()
    assert weighting.reference.tolist() == pytest.approx(means)


def test_warmup_goes_on_after_a_resume_in_the_averaged_epoch():
    straight, first, second = (make(warmup_epochs=0) for _ in range(3))
    for losses in EPOCHS[1]:
        straight.weigh(torch.tensor(losses))
    first.weigh(torch.tensor(EPOCHS[1][0]))
    second.load_state_dict(first.state_dict())
    for losses in EPOCHS[1][1:]:
        second.weigh(torch.tensor(losses))
    for weighting in (straight, second):
        weighting.end_epoch()
    assert torch.equal(straight.reference, second.reference)
    assert not second.warming_up


def test_the_equation_of_the_paper():
    """mu 0.5, lambda (.25, .75), z (1, 0), losses (3, 2): exponents (.5, 1.5) / mu = (1, 3)."""
    weighting = make(mu=0.5, transform="none", preference=[0.25, 0.75], ideal={"a": 1.0, "b": 0.0}, scale="one")
    losses = torch.tensor([3.0, 2.0], dtype=torch.float64)
    total = math.exp(1) + math.exp(3)
    assert weighting(losses).item() == pytest.approx(0.5 * math.log(total))
    expected = [0.25 * math.exp(1) / total, 0.75 * math.exp(3) / total]
    assert weighting.weigh(losses).tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(weighting, (losses.requires_grad_(),))


@pytest.mark.parametrize("mu", [1e-3, 1e3])
def test_limits_of_mu(mu):
    """Small: the worst task alone. Large: all alike."""
    weights = make(3, mu=mu, transform="none", scale="one").weigh(torch.tensor([1.0, 3.0, 2.0]))
    expected = [0.0, 1.0, 0.0] if mu < 1 else [1 / 3] * 3
    assert weights.tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("losses", [[1e36, 1.0], [1e-30, 1e30], [1e4, 1e4]])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_no_exponential_overflows(losses, transform):
    weighting = make(mu=1e-4, transform=transform, warmup_epochs=0, scale="one")
    weighting.end_epoch()
    values = torch.tensor(losses)
    assert weighting(values).isfinite()
    assert weighting.weigh(values).isfinite().all()
    if transform == "none":
        assert weighting(values).item() == pytest.approx(max(losses), rel=1e-3)


def test_losses_have_to_be_positive_for_the_logarithm():
    losses = torch.tensor([1.0, 0.0])
    with pytest.raises(NonFiniteError, match=r"`transform: log` is defined for losses > 0. Found b = 0.0"):
        make().weigh(losses)
    assert make(transform="none", scale="one").weigh(losses).sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mu", 0.0),
        ("transform", "exp"),
        ("warmup_epochs", -1),
        ("preference", [1.0, 0.0]),
        ("ideal", "x"),
        ("scale", 2),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        STCH(**{option: value})


def test_options_have_to_match_the_tasks():
    with pytest.raises(ConfigError, match=r"`preference` should name exactly the tasks a, b"):
        make(preference={"a": 1.0})
