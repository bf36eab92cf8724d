"""Selection of task groups: brute force, by hand, and what may not matter."""

from itertools import combinations

import pytest
import torch

from mtl.errors import ConfigError
from mtl.grouping import select_groups


def score(affinity, group, task):
    others = [i for i in group if i != task]
    return sum(affinity[i][task].item() for i in others) / len(others)


def brute_force(affinity, budget, overlap, alone):
    m = len(affinity)
    groups = [g for size in range(1 if alone is not None else 2, m + 1) for g in combinations(range(m), size)]
    best = -float("inf")
    for count in range(1, budget + 1):
        for chosen in combinations(groups, count):
            members = [task for group in chosen for task in group]
            if set(members) != set(range(m)) or (not overlap and len(members) != m):
                continue
            served = [
                max(alone if len(g) == 1 else score(affinity, g, task) for g in chosen if task in g)
                for task in range(m)
            ]
            best = max(best, sum(served) / m)
    return best


@pytest.mark.parametrize("m", [2, 3, 4, 5])
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("alone", [None, 0.0])
def test_brute_force(m, overlap, alone):
    generator = torch.Generator().manual_seed(10 * m + overlap)
    for trial in range(4):
        affinity = torch.randn((m, m), generator=generator, dtype=torch.float64) * 10 ** (trial % 3 - 1)
        for budget in (1, 2, 3):
            found = select_groups(affinity, budget, overlap=overlap, alone=alone)
            assert found.score == pytest.approx(brute_force(affinity, budget, overlap, alone), abs=1e-12)
            assert len(found.groups) <= budget
            served = [found.groups[found.serves[task]] for task in range(m)]
            assert all(task in group for task, group in enumerate(served))
            values = [alone if len(g) == 1 else score(affinity, g, t) for t, g in enumerate(served)]
            assert sum(values) / m == pytest.approx(found.score, abs=1e-12)
            if not overlap:
                assert sorted(task for group in found.groups for task in group) == list(range(m))


def test_by_hand():
    """0 and 1 help each other, 2 and 3 too; 1 helps 2 more than 3 does, but a third task spoils the mean."""
    affinity = torch.zeros(4, 4)
    affinity[0, 1] = affinity[1, 0] = affinity[2, 3] = affinity[3, 2] = 1.0
    affinity[1, 2] = 1.5
    split = select_groups(affinity, 2)
    assert split.groups == ((0, 1), (2, 3))
    assert split.serves == (0, 0, 1, 1)
    assert split.score == 1.0
    more = select_groups(affinity, 3)  # (1, 2) serves 2 alone: (1 + 1 + 1.5 + 1) / 4
    assert more.groups == ((0, 1), (1, 2), (2, 3))
    assert more.serves == (0, 0, 1, 2)
    assert more.score == 4.5 / 4
    assert select_groups(affinity, 3, overlap=False).groups == ((0, 1), (2, 3))
    assert select_groups(affinity, 1).groups == ((0, 1, 2, 3),)


def test_a_task_that_everyone_harms():
    affinity = torch.full((3, 3), 0.2)
    affinity[:, 2] = -1.0
    found = select_groups(affinity, 2, alone=0.0)
    assert found.groups[found.serves[2]] == (2,)
    assert found.score == pytest.approx(0.4 / 3)
    assert all(len(group) > 1 for group in select_groups(affinity, 2).groups)


def test_the_direction_counts():
    """Row i is the source: 0 helps 1, not the reverse."""
    affinity = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    found = select_groups(affinity, 3)
    assert found.groups[found.serves[1]] == (0, 1)
    assert found.groups[found.serves[0]] == (0, 2)


def test_the_diagonal_and_the_type_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    affinity = torch.randn((5, 5), generator=generator)
    other = affinity.double().fill_diagonal_(float("nan"))
    assert select_groups(affinity, 2) == select_groups(other, 2)


def test_the_order_of_the_tasks_does_not_matter():
    affinity = torch.randn((6, 6), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    order = [4, 2, 0, 5, 1, 3]
    first, second = select_groups(affinity, 3), select_groups(affinity[order][:, order], 3)
    assert second.score == pytest.approx(first.score, abs=1e-12)
    renamed = {tuple(sorted(order[task] for task in group)) for group in second.groups}
    assert renamed == set(first.groups)


def test_more_budget_never_hurts():
    affinity = torch.randn((8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = [select_groups(affinity, budget).score for budget in range(1, 5)]
    assert scores == sorted(scores)


@pytest.mark.parametrize(
    ("affinity", "options", "message"),
    [
        (torch.zeros(3, 4), {}, "square"),
        (torch.zeros(1, 1), {}, "square"),
        (torch.zeros(13, 13), {}, "12 tasks"),
        (torch.full((3, 3), float("nan")), {}, "finite"),
        (torch.zeros(3, 3), {"budget": 0}, "budget"),
        (torch.zeros(3, 3), {"alone": float("inf")}, "alone"),
        (torch.zeros(3, 3), {"overlap": 1}, "overlap"),
    ],
)
def test_wrong_arguments(affinity, options, message):
    with pytest.raises(ConfigError, match=message):
        select_groups(affinity, **{"budget": 2, **options})
