import pytest
import torch

from mtl.errors import ConfigError
from mtl.grouping import Singletons


def orders(order, seed=0, m=4, count=50):
    grouping = Singletons(order)
    grouping.setup(m, torch.Generator().manual_seed(seed))
    return [tuple(grouping.next_groups()) for _ in range(count)]


def test_fixed():
    assert set(orders("fixed")) == {((0,), (1,), (2,), (3,))}
    assert Singletons().task_order == "fixed"


def test_fixed_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    grouping = Singletons()
    grouping.setup(3, generator)
    grouping.next_groups()
    assert torch.equal(before, generator.get_state())


def test_shuffled():
    found = orders("shuffled")
    assert all(sorted(groups) == [(0,), (1,), (2,), (3,)] for groups in found)
    assert len(set(found)) > 10
    assert {groups[0] for groups in found} == {(0,), (1,), (2,), (3,)}
    assert found == orders("shuffled")
    assert found != orders("shuffled", seed=1)


def test_nothing_is_observed():
    grouping = Singletons("shuffled")
    assert not grouping.observes_losses
    assert not grouping.trailing_forward
    assert grouping.state_dict() == {}


def test_wrong_order():
    with pytest.raises(ConfigError, match="task_order"):
        Singletons("random")
