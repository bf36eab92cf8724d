"""Given weights, and every way to give them wrongly."""

import pytest
import torch

from mtl.errors import ConfigError
from mtl.weighting import Static

TASKS = ("left", "right", "top")
KINDS = ("classification",) * 3


def weigh(weights, dtype=torch.float64):
    weighting = Static(weights)
    weighting.setup(TASKS, KINDS, torch.Generator())
    return weighting.weigh(torch.tensor([5.0, 6.0, 7.0], dtype=dtype))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (2, [2.0, 2.0, 2.0]),
        (0.5, [0.5, 0.5, 0.5]),
        ([0.5, 0.25, 0.0], [0.5, 0.25, 0.0]),
        ((1, 2, 3), [1.0, 2.0, 3.0]),
        ({"top": 3.0, "left": 1.0, "right": 2}, [1.0, 2.0, 3.0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_number_list_and_mapping(weights, expected, dtype):
    found = weigh(weights, dtype)
    assert found.tolist() == expected
    assert found.dtype == dtype


def test_default_is_the_plain_sum():
    weighting = Static()
    weighting.setup(TASKS, KINDS, torch.Generator())
    assert weighting.weigh(torch.ones(3)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "weights", [-1.0, [1.0, -0.1, 1.0], {"left": -1.0, "right": 1.0, "top": 1.0}, "123", True, [float("nan"), 1.0, 1.0]]
)
def test_not_a_weight(weights):
    with pytest.raises(ConfigError, match="weights"):
        Static(weights)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0] * 4, []])
def test_a_list_of_another_length_names_the_tasks(weights):
    with pytest.raises(ConfigError, match=r"3 tasks \(left, right, top\)"):
        weigh(weights)


@pytest.mark.parametrize(
    "weights",
    [
        {"left": 1.0, "right": 1.0},
        {"left": 1.0, "right": 1.0, "bottom": 1.0},
        {"left": 1, "right": 1, "top": 1, "x": 1},
    ],
)
def test_a_mapping_with_other_tasks_names_them(weights):
    with pytest.raises(ConfigError, match="exactly the tasks left, right, top"):
        weigh(weights)


def test_carries_no_state():
    weighting = Static([1.0, 2.0, 3.0])
    weighting.setup(TASKS, KINDS, torch.Generator())
    assert not weighting.state_dict()
