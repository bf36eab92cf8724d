import copy
import warnings

import pytest
import torch
from sklearn.cluster import AffinityPropagation

from mtl.errors import ConfigError
from mtl.grouping import SelectiveGroups


def grouping_with(affinity, **options):
    grouping = SelectiveGroups(**{"warmup_iterations": 0, **options})
    affinity = torch.as_tensor(affinity, dtype=torch.float64)
    grouping.setup(len(affinity), torch.Generator().manual_seed(0))
    grouping.affinity = affinity.clone()
    return grouping


def blocks(m, *groups, inside=0.09, outside=-0.03, own=0.1):
    affinity = torch.full((m, m), outside, dtype=torch.float64)
    for group in groups:
        for s in group:
            affinity[s, list(group)] = inside
    affinity += 0.01 * torch.randn(m, m, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    affinity.diagonal().fill_(own)
    return affinity


@pytest.mark.parametrize(("between", "expected"), [(0.2, [(0, 1)]), (0.05, [(0,), (1,)]), (-0.1, [(0,), (1,)])])
def test_two_tasks(between, expected):
    """Two tasks are one group if they help each other more than themselves; nothing warns."""
    grouping = grouping_with([[0.1, between], [between, 0.1]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        groups = grouping.next_groups()
    assert not caught
    assert sorted(groups) == expected
    assert (grouping.retries, grouping.kept) == (0, 0)


@pytest.mark.parametrize(
    ("m", "expected"),
    [(4, [(0, 2), (1, 3)]), (5, [(0, 3), (1, 2, 4)]), (6, [(0, 1, 5), (2, 3, 4)]), (6, [(0, 1), (2, 3), (4, 5)])],
)
def test_blocks_are_found(m, expected):
    """Not in general: with equal similarities affinity propagation oscillates, and its median preference may split."""
    grouping = grouping_with(blocks(m, *expected))
    assert sorted(grouping.next_groups()) == expected
    assert grouping.diagnostics == {
        "num_groups": float(len(expected)),
        "clustering_retries_total": 0.0,
        "groups_kept_total": 0.0,
    }


def test_one_task_is_left_alone():
    grouping = grouping_with([[0.1]])
    assert [grouping.next_groups() for _ in range(3)] == [[(0,)]] * 3
    assert (grouping.retries, grouping.kept) == (0, 0)


def test_the_first_attempt_uses_the_median():
    """As scikit-learn's `preference=None` on the symmetric matrix, diagonal included."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        affinity = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        affinity.diagonal().copy_(0.5 + torch.rand(6, generator=generator, dtype=torch.float64))
        x = affinity / affinity.diagonal()
        x = ((x + x.T) / 2).numpy()
        model = AffinityPropagation(affinity="precomputed", convergence_iter=50, random_state=0).fit(x)
        expected = {}
        for task, label in enumerate(model.labels_):
            expected.setdefault(label, []).append(task)
        grouping = grouping_with(affinity)
        assert sorted(grouping.next_groups()) == sorted(tuple(group) for group in expected.values())
        assert grouping.retries == 0


@pytest.mark.parametrize("bad", [0.0, -0.1])
def test_groups_are_kept_while_the_diagonal_is_not_positive(bad):
    affinity = blocks(4, (0, 2), (1, 3))
    grouping = grouping_with(affinity)
    grouping.next_groups()
    grouping.affinity[2, 2] = bad
    grouping.affinity[0, 1] = grouping.affinity[1, 0] = 5.0
    for count in (1, 2, 3):
        assert sorted(grouping.next_groups()) == [(0, 2), (1, 3)]
        assert grouping.kept == count
        assert grouping.diagnostics["groups_kept_total"] == count
    grouping.affinity = affinity
    grouping.next_groups()
    assert grouping.kept == 3


def test_groups_are_kept_when_no_attempt_converges():
    grouping = grouping_with(blocks(4, (0, 2), (1, 3)), convergence_iter=500, max_retries=2)
    for count in (1, 2):
        assert sorted(grouping.next_groups()) == [(0,), (1,), (2,), (3,)]
        assert grouping.kept == count
    assert grouping.diagnostics["clustering_retries_total"] == grouping.retries > 0


@pytest.mark.parametrize("max_retries", [0, 2])
def test_retries_are_counted(max_retries):
    grouping = grouping_with(blocks(4, (0, 2), (1, 3)), convergence_iter=500, max_retries=max_retries)
    grouping.next_groups()
    assert grouping.retries == max_retries


def test_a_retry_can_succeed():
    """Equal similarities with a lower preference oscillate; with the preference raised every task is its own."""
    for seed in range(200):
        affinity = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        affinity.diagonal().fill_(1.0)
        grouping = grouping_with(affinity)
        groups = grouping.next_groups()
        if grouping.retries:
            break
    assert grouping.retries == 1
    assert grouping.kept == 0
    assert sorted(groups) == [(0,), (1,), (2,), (3,), (4,)]
    refused = grouping_with(affinity, max_retries=0)
    refused.groups = [(0, 1, 2), (3, 4)]
    assert sorted(refused.next_groups()) == [(0, 1, 2), (3, 4)]
    assert refused.kept == 1


@pytest.mark.parametrize(("single", "expected"), [("once", [(0, 1)]), ("twice", [(0, 1), (0, 1)])])
def test_a_single_group(single, expected):
    grouping = grouping_with([[0.1, 0.2], [0.2, 0.1]], single_group=single)
    assert grouping.next_groups() == expected
    assert grouping.groups == [(0, 1)]
    assert grouping.diagnostics["num_groups"] == 1


def test_twice_concerns_a_single_group_only():
    grouping = grouping_with(blocks(4, (0, 2), (1, 3)), single_group="twice")
    assert sorted(grouping.next_groups()) == [(0, 2), (1, 3)]


def test_order():
    fixed = grouping_with(torch.zeros(4, 4), group_order="fixed", warmup_iterations=100)
    assert {tuple(fixed.next_groups()) for _ in range(20)} == {((0,), (1,), (2,), (3,))}
    shuffled = grouping_with(torch.zeros(4, 4), warmup_iterations=100)
    assert len({tuple(shuffled.next_groups()) for _ in range(20)}) > 5


def test_a_new_batch_forgets_the_old_losses():
    """No change is credited across batches."""
    grouping = grouping_with(torch.zeros(2, 2), decay_rate=1.0, warmup_iterations=100)
    for losses in (torch.ones(2), 0.1 * torch.ones(2)):
        grouping.next_groups()
        grouping.observe(losses, (0,))
    assert not grouping.affinity.any()


def test_a_loss_of_zero_gives_finite_affinities():
    grouping = grouping_with(torch.zeros(2, 2), decay_rate=1.0, warmup_iterations=100)
    grouping.next_groups()
    grouping.observe(torch.tensor([0.0, 1.0]), (0,))
    grouping.observe(torch.tensor([0.5, 0.5]), None)
    assert torch.isfinite(grouping.affinity).all()


def drive(grouping, generator, count):
    history = []
    for _ in range(count):
        order = grouping.next_groups()
        history.append(tuple(order))
        losses = torch.ones(4, dtype=torch.float64)
        for group in order:
            grouping.observe(losses, group)
            losses = losses * (1 - 0.2 * torch.rand(4, generator=generator, dtype=torch.float64))
        grouping.observe(losses, None)
    return history


def test_state_continues():
    first = SelectiveGroups(decay_rate=0.3, warmup_iterations=6, convergence_iter=15)
    first.setup(4, torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(5)
    drive(first, noise, 4)
    state = copy.deepcopy((first.state_dict(), first.generator.get_state(), noise.get_state()))
    expected = drive(first, noise, 8)
    second = SelectiveGroups(decay_rate=0.3, warmup_iterations=6, convergence_iter=15)
    second.setup(4, torch.Generator().manual_seed(77))
    second.load_state_dict(state[0])
    second.generator.set_state(state[1])
    noise.set_state(state[2])
    assert drive(second, noise, 8) == expected
    assert torch.equal(second.affinity, first.affinity)
    assert (second.iterations, second.retries, second.kept) == (first.iterations, first.retries, first.kept)
    assert min(map(len, expected)) < 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decay_rate", 1.5),
        ("decay_rate", -0.1),
        ("warmup_iterations", -1),
        ("attribution", "next"),
        ("trailing_forward", "yes"),
        ("single_group", 2),
        ("group_order", "random"),
        ("convergence_iter", 0),
        ("max_retries", -1),
    ],
)
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        SelectiveGroups(**{name: value})
