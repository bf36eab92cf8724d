"""Dynamic weight average by hand."""

import math

import pytest
import torch

from mtl.errors import ConfigError
from mtl.weighting import DWA

EPOCHS = [  # (steps, tasks) loss values
    [[4.0, 1.0], [2.0, 1.0]],  # means 3, 1
    [[2.0, 0.5], [1.0, 0.5], [0.0, 0.5]],  # means 1, 0.5
    [[0.5, 1.0]],  # means 0.5, 1
    [[1.0, 1.0], [1.0, 1.0]],
]


def make(m=2, **options):
    weighting = DWA(**options)
    weighting.setup(tuple(str(k) for k in range(m)), ("regression",) * m, torch.Generator())
    return weighting


def by_hand(ratios, temperature):
    powers = [math.exp(ratio / temperature) for ratio in ratios]
    return [len(ratios) * power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_four_epochs(temperature):
    weighting = make(temperature=temperature)
    expected = [
        [1.0, 1.0],
        [1.0, 1.0],
        by_hand([1 / 3, 0.5], temperature),
        by_hand([0.5, 2.0], temperature),
    ]
    for epoch, weights in zip(EPOCHS, expected, strict=True):
        for losses in epoch:
            found = weighting.weigh(torch.tensor(losses, dtype=torch.float64))
            assert found.tolist() == pytest.approx(weights, rel=1e-12)
            assert found.sum().item() == pytest.approx(2)
        weighting.end_epoch()


def test_windows_of_steps():
    """Windows of two steps; an epoch's end inside a window changes nothing."""
    weighting = make(window="steps", window_steps=2)
    steps = [[4.0, 1.0], [2.0, 1.0], [2.0, 0.5], [0.0, 0.5], [7.0, 7.0], [7.0, 7.0], [1.0, 1.0]]
    expected = [[1, 1]] * 4 + [by_hand([1 / 3, 0.5], 2.0)] * 2 + [by_hand([7.0, 14.0], 2.0)]
    for index, (losses, weights) in enumerate(zip(steps, expected, strict=True)):
        assert weighting.weigh(torch.tensor(losses)).tolist() == pytest.approx(weights, rel=1e-6)
        if index % 3 == 0:
            weighting.end_epoch()


def test_the_default_is_the_paper():
    weighting = make()
    assert (weighting.temperature, weighting.window, weighting.window_steps) == (2.0, "epoch", 25)
    for _ in range(60):  # steps alone never close an epoch
        assert weighting.weigh(torch.rand(2)).tolist() == [1.0, 1.0]


def test_an_epoch_without_steps_is_no_window():
    """Empty windows neither divide by 0 nor end the start-up phase."""
    weighting = make()
    for _ in range(3):
        weighting.end_epoch()
    assert weighting.weigh(torch.tensor([3.0, 1.0])).tolist() == [1.0, 1.0]
    weighting.end_epoch()
    weighting.end_epoch()
    assert weighting.weigh(torch.tensor([1.0, 0.5])).tolist() == [1.0, 1.0]
    weighting.end_epoch()
    assert weighting.weigh(torch.ones(2)).tolist() == pytest.approx(by_hand([1 / 3, 0.5], 2.0), rel=1e-6)


def test_sums_to_m_for_more_tasks():
    weighting = make(5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        weights = weighting.weigh(torch.rand(5, generator=generator) + 0.1)
        weighting.end_epoch()
    assert weights.sum().item() == pytest.approx(5, rel=1e-6)
    assert (weights - 1).abs().max() > 0.01


def test_state_survives_a_round_trip():
    first, second = make(), make()
    for epoch in EPOCHS[:2]:
        for losses in epoch:
            first.weigh(torch.tensor(losses))
        first.end_epoch()
    first.weigh(torch.tensor([0.25, 3.0]))
    second.load_state_dict(first.state_dict())
    for weighting in (first, second):
        weighting.weigh(torch.tensor([0.75, 1.0]))
        weighting.end_epoch()
    assert torch.equal(first.weigh(torch.ones(2)), second.weigh(torch.ones(2)))


def test_averages_are_float64():
    """A float32 running sum of many steps would lose the small ratio differences."""
    weighting = make()
    for _ in range(1000):
        weighting.weigh(torch.tensor([0.1, 1e6], dtype=torch.float64))
    weighting.end_epoch()
    assert weighting.averages[1].tolist() == pytest.approx([0.1, 1e6], rel=1e-12)


@pytest.mark.parametrize(("option", "value"), [("temperature", 0.0), ("window", "batch"), ("window_steps", 0)])
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        DWA(**{option: value})
