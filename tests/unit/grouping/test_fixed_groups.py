"""Groups that are given, and groups of unlike tasks."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.errors import ConfigError
from mtl.grouping import FixedGroups, HeterogeneousGroups
from mtl.strategies import SequentialStrategy
from tests.problems import adam, build_strategy, distance, make_batches, make_objective, parameters_of, train


def ready(grouping, tasks="abcd", kinds=None, seed=0):
    grouping.meet(tuple(tasks), tuple(kinds or ["regression"] * len(tasks)))
    grouping.setup(len(tasks), torch.Generator().manual_seed(seed))
    return grouping


def test_named_groups_become_indices_in_the_listed_order():
    grouping = ready(FixedGroups([["d", "a"], ["c"], ["b"]]))
    assert grouping.next_groups() == grouping.next_groups() == [(0, 3), (2,), (1,)]
    assert grouping.diagnostics == {"num_groups": 3.0}


def test_null_is_one_group_of_all_tasks():
    assert ready(FixedGroups()).next_groups() == [(0, 1, 2, 3)]
    trained = []
    for name in ("fixed_groups", "uniform"):
        objective = make_objective()
        train(build_strategy(name), objective, make_batches(), adam)
        trained.append(parameters_of(objective))
    assert distance(*trained) < 1e-12


def test_groups_of_one_are_igd_per_task():
    mine, other = make_objective(), make_objective()
    train(
        SequentialStrategy(FixedGroups([["a"], ["b"], ["c"]]), optimizer_state="per_task"), mine, make_batches(), adam
    )
    train(build_strategy("igd_per_task"), other, make_batches(), adam)
    assert distance(parameters_of(mine), parameters_of(other)) == 0


def test_the_order_may_be_shuffled():
    grouping = ready(FixedGroups([["a"], ["b"], ["c", "d"]], group_order="shuffled"))
    seen = {tuple(grouping.next_groups()) for _ in range(50)}
    assert len(seen) == 6
    assert {frozenset(groups) for groups in seen} == {frozenset({(0,), (1,), (2, 3)})}


@pytest.mark.parametrize("groups", [["ab", "cd"], "abcd", [], [["a"], []]])
def test_not_a_list_of_lists(groups):
    with pytest.raises(ConfigError, match="groups"):
        FixedGroups(groups)


@pytest.mark.parametrize("groups", [[["a", "b"]], [["a", "b"], ["c", "d", "a"]], [["a", "b"], ["c", "e"]]])
def test_every_task_exactly_once(groups):
    with pytest.raises(ConfigError, match="exactly once"):
        ready(FixedGroups(groups))


def test_kinds_are_dealt():
    """Three of one kind, two of the other, pairs: no pair of one kind but the odd one."""
    grouping = ready(HeterogeneousGroups(2), "abcdef", ["r", "r", "r", "c", "c", "c"])
    assert grouping.next_groups() == [(0, 3), (1, 4), (2, 5)]
    assert ready(HeterogeneousGroups(2), "abcd", ["r", "c", "r", "c"]).next_groups() == [(0, 1), (2, 3)]
    assert ready(HeterogeneousGroups(9), "abc").next_groups() == [(0, 1, 2)]
    assert ready(HeterogeneousGroups(1), "ab").next_groups() == [(0,), (1,)]


@settings(max_examples=100, deadline=None)
@given(kinds=st.lists(st.sampled_from("rcs"), min_size=1, max_size=15), size=st.integers(1, 8))
def test_kinds_are_spread_as_far_as_possible(kinds, size):
    groups = ready(HeterogeneousGroups(size), [f"t{k}" for k in range(len(kinds))], kinds).next_groups()
    assert sorted(task for group in groups for task in group) == list(range(len(kinds)))
    sizes = [len(group) for group in groups]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    for kind, count in Counter(kinds).items():
        most = max(sum(kinds[task] == kind for task in group) for group in groups)
        assert most == -(-count // len(groups))


def test_options_are_checked():
    with pytest.raises(ConfigError, match="group_order"):
        FixedGroups(group_order="random")
    with pytest.raises(ConfigError, match="group_order"):
        HeterogeneousGroups(group_order="random")
    with pytest.raises(ConfigError, match="group_size"):
        HeterogeneousGroups(0)
