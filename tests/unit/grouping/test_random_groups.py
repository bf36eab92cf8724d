import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.errors import ConfigError
from mtl.grouping import RandomGroups


def ready(size, regroup="run", m=6, seed=0):
    grouping = RandomGroups(size, regroup)
    grouping.setup(m, torch.Generator().manual_seed(seed))
    return grouping


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 20), size=st.integers(1, 25), seed=st.integers(0, 1000))
def test_a_partition_of_the_right_sizes(m, size, seed):
    grouping = ready(size, "step", m, seed)
    for _ in range(3):
        groups = grouping.next_groups()
        assert sorted(task for group in groups for task in group) == list(range(m))
        assert all(list(group) == sorted(group) for group in groups)
        assert len(groups) == math.ceil(m / size)
        assert sum(len(group) < size for group in groups) == (m % size > 0)
        assert grouping.diagnostics == {"num_groups": len(groups)}


def history(grouping, epochs=6, steps=5):
    found = []
    for _ in range(epochs):
        found.append([tuple(grouping.next_groups()) for _ in range(steps)])
        grouping.end_epoch()
    return found


def test_reproducible_from_the_seed():
    for regroup in ("run", "epoch", "step"):
        assert history(ready(2, regroup, seed=1)) == history(ready(2, regroup, seed=1))
        assert history(ready(2, regroup, seed=1)) != history(ready(2, regroup, seed=2))


def test_when_groups_change():
    everything = {regroup: history(ready(2, regroup)) for regroup in ("run", "epoch", "step")}
    changes = {regroup: [len(set(epoch)) for epoch in epochs] for regroup, epochs in everything.items()}
    assert changes["run"] == changes["epoch"] == [1] * 6
    assert min(changes["step"]) > 1
    assert len({epoch[0] for epoch in everything["run"]}) == 1
    assert len({epoch[0] for epoch in everything["epoch"]}) > 3


def test_size_one_keeps_the_order_and_draws_nothing():
    grouping = ready(1, "step")
    before = grouping.generator.get_state()
    assert history(grouping, 2) == [[tuple((task,) for task in range(6))] * 5] * 2
    assert torch.equal(before, grouping.generator.get_state())


def test_every_pair_meets_equally_often():
    grouping = ready(2, "step", m=4)
    together = [0 for _ in range(3000) for group in grouping.next_groups() if group == (0, 3)]
    assert len(together) / 3000 == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize("regroup", ["run", "epoch", "step"])
def test_state_continues(regroup):
    first = ready(2, regroup)
    history(first, 2)
    first.next_groups()
    state = copy.deepcopy((first.state_dict(), first.generator.get_state()))
    expected = history(first, 3)
    second = ready(2, regroup, seed=50)
    second.load_state_dict(state[0])
    second.generator.set_state(state[1])
    assert history(second, 3) == expected


@pytest.mark.parametrize(("name", "value"), [("group_size", 0), ("group_size", 2.0), ("regroup_every", "batch")])
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        RandomGroups(**{name: value})
