"""Acceptance properties of Jeong and Yoon 2025 (selective_groups), and the toy of section 1.5 of our notes.

Not here: 8, `Delta_m` (a metric: tests/unit/results/test_delta_m.py); of 7, one scheduler step per batch (the trainer's
own: strategies never see a scheduler).
"""

import math

import pytest
import torch

from mtl.grouping import SelectiveGroups
from mtl.strategies import SequentialStrategy
from tests.problems import adam, distance, make_batches, make_objective, parameters_of, plain_steps, sgd, train

NEVER = 10**9
FIVE = ("a", "b", "c", "d", "e")
EFFECTS = torch.tensor(
    [[0.10, 0.05, -0.02, 0.0], [0.05, 0.10, 0.0, -0.02], [-0.02, 0.0, 0.10, 0.05], [0.0, -0.02, 0.05, 0.10]],
    dtype=torch.float64,
)
RELEASED = {"attribution": "released_code", "trailing_forward": False, "single_group": "twice"}


def released(**options):
    return SelectiveGroups(**RELEASED, **options)


def simulate(grouping, effects, iterations, noise=0.0, seed=0):
    """Losses that follow an effect matrix: an update of s lowers the loss of t by the fraction effects[s, t]."""
    m = len(effects)
    generator = torch.Generator().manual_seed(seed)
    grouping.setup(m, torch.Generator().manual_seed(seed))
    history = []
    for _ in range(iterations):
        order = grouping.next_groups()
        history.append(tuple(sorted(grouping.groups)))
        losses = 1 + torch.rand(m, generator=generator, dtype=torch.float64)
        for group in order:
            grouping.observe(losses, group)
            change = effects[list(group)].sum(0)
            if noise:
                change = change + noise * torch.randn(m, generator=generator, dtype=torch.float64)
            losses = losses * (1 - change)
        if grouping.trailing_forward:
            grouping.observe(losses, None)
    return history


def ready(m, groups=None, **options):
    """A grouping set up for m tasks that keeps `groups`."""
    grouping = SelectiveGroups(warmup_iterations=NEVER, **options)
    grouping.setup(m, torch.Generator().manual_seed(0))
    if groups is not None:
        grouping.groups = groups
    return grouping


@pytest.mark.parametrize("options", [{}, RELEASED])
def test_1_groups_are_partitions(options):
    """1: groups are a partition of the tasks at every iteration; singletons during warm-up; deterministic under the
    seed."""
    batches = make_batches(FIVE, count=24)
    runs = []
    for _ in range(2):
        grouping = SelectiveGroups(decay_rate=0.1, warmup_iterations=5, convergence_iter=15, **options)
        objective = make_objective(FIVE)
        reports = train(SequentialStrategy(grouping), objective, batches, sgd, seed=2)
        runs.append(([report.groups for report in reports], parameters_of(objective)))
    assert runs[0][0] == runs[1][0]
    assert distance(runs[0][1], runs[1][1]) == 0
    for index, groups in enumerate(runs[0][0]):
        if len(groups) == 2 and groups[0] == groups[1]:
            assert options, "one group is updated twice by the released code alone"
            groups = groups[:1]
        assert sorted(task for group in groups for task in group) == [0, 1, 2, 3, 4]
        if index < 5:
            assert sorted(groups) == [(task,) for task in range(5)]
    assert any(len(groups) < 5 for groups in runs[0][0])


def test_1_warm_up_lasts_as_long_as_it_says():
    """1: with affinities that call for groups from the first batch on, singletons last `warmup_iterations` batches."""
    history = simulate(SelectiveGroups(warmup_iterations=7), EFFECTS, 10)
    singles = ((0,), (1,), (2,), (3,))
    assert history == [singles] * 7 + [((0, 1), (2, 3))] * 3


@pytest.mark.parametrize("group", [(0,), (0, 1), (0, 1, 3)])
def test_2_value_of_an_affinity(group):
    """2: halving L_k in a sub-step of G gives a_k = 0.5/|G|; an unchanged loss gives 0; rescaling a task's recorded
    losses changes nothing."""
    for changed in (0, 2):
        for scales in ([1.0, 1.0, 1.0, 1.0], [3.0, 1e3, 1e-3, 7.0]):
            grouping = ready(4, [group, (2,)], decay_rate=1.0)
            before = torch.tensor(scales, dtype=torch.float64)
            after = before.clone()
            after[changed] /= 2
            grouping.next_groups()
            grouping.observe(before, group)
            grouping.observe(after, None)
            expected = torch.zeros(4, 4, dtype=torch.float64)
            expected[list(group), changed] = 0.5 / len(group)
            torch.testing.assert_close(grouping.affinity, expected, rtol=1e-12, atol=1e-12)


def test_2_the_four_cases():
    """Table of section 1.3: outside, itself (only if >= 0), same sign, signs differ."""
    grouping = ready(4, [(0, 1, 2), (3,)], decay_rate=0.5)
    grouping.affinity.fill_(0.4)
    grouping.next_groups()
    grouping.observe(torch.ones(4), (0, 1, 2))
    grouping.observe(torch.tensor([0.7, 1.6, 0.4, 1.3], dtype=torch.float64), None)
    a, b, c, d = 0.1, -0.2, 0.2, -0.1
    expected = torch.tensor(
        [
            [0.2 + a / 2, 0.2 - a / 2, 0.2 + c / 2, 0.2 + d / 2],
            [0.2 - a / 2, 0.4, 0.2 - c / 2, 0.2 + d / 2],
            [0.2 + a / 2, 0.2 - c / 2, 0.2 + c / 2, 0.2 + d / 2],
            [0.4, 0.4, 0.4, 0.4],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(grouping.affinity, expected, rtol=1e-12, atol=1e-12)
    assert b < 0  # the largest fall of all, and its row's own entry stays


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
@pytest.mark.parametrize("beta", [1.0, 0.001])
def test_3_definition_recovers_the_effects(order, beta):
    """3: toy of 1.5, singletons: `definition` recovers the matrix, in any order."""
    grouping = SelectiveGroups(decay_rate=beta, warmup_iterations=NEVER, group_order=order)
    simulate(grouping, EFFECTS, 20)
    torch.testing.assert_close(grouping.affinity / (1 - (1 - beta) ** 20), EFFECTS, rtol=1e-9, atol=1e-12)


def test_3_definition_without_the_last_measurement():
    """3, with `trailing_forward: false`: the effect of the last group is lost, the others are right."""
    grouping = SelectiveGroups(1.0, NEVER, trailing_forward=False, group_order="fixed")
    simulate(grouping, EFFECTS, 5)
    torch.testing.assert_close(grouping.affinity[:3], EFFECTS[:3], rtol=1e-9, atol=1e-12)
    assert not grouping.affinity[3].any()


@pytest.mark.parametrize("trailing", [False, True])
def test_3_released_code_shifts_rows(trailing):
    """3: `released_code` in fixed order gives the shifted rows and the zero first row; so groups never form."""
    grouping = SelectiveGroups(1.0, 3, attribution="released_code", trailing_forward=trailing, group_order="fixed")
    history = simulate(grouping, EFFECTS, 10)
    assert not grouping.affinity[0].any()
    torch.testing.assert_close(grouping.affinity[1:], EFFECTS[:3], rtol=1e-9, atol=1e-12)
    assert set(history) == {((0,), (1,), (2,), (3,))}
    assert grouping.kept == 7


def test_3_released_code_reverses_the_order():
    """1.5: singletons in random order under `released_code`: A->B about 0.027 but A->C about 0.049, the reverse."""
    grouping = released(decay_rate=0.01, warmup_iterations=NEVER)
    simulate(grouping, EFFECTS, 800)
    found = grouping.affinity
    assert found[0, 1] == pytest.approx(0.027, abs=0.012)
    assert found[0, 2] == pytest.approx(0.049, abs=0.012)
    assert found[0, 1] < found[0, 2]
    assert found[3, 2] < found[3, 1]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("build", "least", "most"), [(SelectiveGroups, 0.7, 1.0), (released, 0.0, 0.5)])
def test_3_full_loop(build, least, most, seed):
    """1.5: full loop, effects x 0.2, 1 % noise, beta 0.001, second half: the definition gives AB|CD in most iterations,
    the released code does not. 300 iterations, and convergence_iter 15 in place of 50, for time."""
    history = simulate(build(convergence_iter=15), 0.2 * EFFECTS, 300, noise=0.01, seed=seed)
    later = history[150:]
    assert least <= later.count(((0, 1), (2, 3))) / len(later) <= most


def test_4_decay_rate_one():
    """4: beta = 1: B holds the latest values."""
    grouping = ready(4, decay_rate=1.0)
    grouping.affinity.fill_(7.0)
    for effects in (EFFECTS, EFFECTS.flip(0, 1) + 0.01):
        grouping.next_groups()
        losses = torch.ones(4, dtype=torch.float64)
        for s in range(4):
            grouping.observe(losses, (s,))
            losses = losses * (1 - effects[s])
        grouping.observe(losses, None)
        torch.testing.assert_close(grouping.affinity, effects, rtol=1e-9, atol=1e-12)


def test_4_decay_rate_zero():
    """4: beta = 0: B stays 0 and groups never change."""
    grouping = SelectiveGroups(decay_rate=0.0, warmup_iterations=2)
    history = simulate(grouping, EFFECTS, 20, noise=0.05)
    assert not grouping.affinity.any()
    assert set(history) == {((0,), (1,), (2,), (3,))}


@pytest.mark.parametrize("options", [{}, RELEASED])
def test_4_diagonal_is_never_negative(options):
    """4: the diagonal of B is never negative, also when updates make a task's own loss worse."""
    for seed in range(5):
        grouping = SelectiveGroups(decay_rate=0.3, warmup_iterations=3, convergence_iter=15, **options)
        effects = 0.3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        simulate(grouping, effects, 12, noise=0.1, seed=seed)
        assert (grouping.affinity.diagonal() >= 0).all()
        assert (grouping.affinity < 0).any()


class Watched(SelectiveGroups):
    def _cluster(self, similarity):
        self.similarity = similarity.clone()
        return super()._cluster(similarity)


@pytest.mark.parametrize("m", [2, 3, 4, 5, 7])
def test_5_similarity(m):
    """5: after column normalisation X has unit diagonal; X is symmetric; groups do not depend on rescaling B."""
    found = []
    generator = torch.Generator().manual_seed(m)
    affinity = 0.05 * torch.randn(m, m, generator=generator, dtype=torch.float64)
    affinity.diagonal().copy_(0.05 + 0.1 * torch.rand(m, generator=generator, dtype=torch.float64))
    for factor in (1.0, 1 / 1024, 64.0):
        grouping = Watched(warmup_iterations=0)
        grouping.setup(m, torch.Generator().manual_seed(0))
        grouping.affinity = factor * affinity
        found.append(sorted(grouping.next_groups()))
        x = grouping.similarity
        torch.testing.assert_close(x.diagonal(), torch.ones(m, dtype=torch.float64))
        assert torch.equal(x, x.T)
        expected = (affinity[0, 1] / affinity[1, 1] + affinity[1, 0] / affinity[0, 0]) / 2
        assert x[0, 1].item() == pytest.approx(expected.item())
    assert found[0] == found[1] == found[2]


def single_group(single, m=3):
    strategy = SequentialStrategy(SelectiveGroups(warmup_iterations=NEVER, single_group=single))
    build = strategy._build

    def with_one_group(make_optimizer):
        build(make_optimizer)
        strategy.grouping.groups = [tuple(range(m))]

    strategy._build = with_one_group
    return strategy


@pytest.mark.parametrize(("single", "times"), [("once", 1), ("twice", 2)])
@pytest.mark.parametrize("make_optimizer", [sgd, adam])
def test_6_a_single_group_is_gradient_descent(single, times, make_optimizer):
    """6: fixed single group, `once`: the method is GD, step for step; `twice`: GD with every batch taken twice."""
    batches = make_batches()
    objective = make_objective()
    reports = train(single_group(single), objective, batches, make_optimizer)
    plain = plain_steps(make_objective(), [batch for batch in batches for _ in range(times)], make_optimizer)
    assert distance(parameters_of(objective), plain) < 1e-12
    assert all(report.groups == ((0, 1, 2),) * times for report in reports)


def test_6_singletons_are_gradient_descent_for_small_steps():
    """6: plain SGD, singletons, lr -> 0: one iteration equals one GD step up to O(lr^2)."""
    gaps = []
    for lr in (4e-3, 2e-3, 1e-3):
        mine, plain = make_objective(), make_objective()
        batch = make_batches(count=1)
        train(SequentialStrategy(SelectiveGroups()), mine, batch, lambda p, lr=lr: torch.optim.SGD(p, lr=lr))
        expected = plain_steps(plain, batch, lambda p, lr=lr: torch.optim.SGD(p, lr=lr))
        found = parameters_of(mine)
        gaps.append(sum((found[key] - expected[key]).square().sum() for key in expected) ** 0.5)
    assert gaps[0] > 1e-7
    assert [math.log2(gaps[0] / gaps[1]), math.log2(gaps[1] / gaps[2])] == pytest.approx([2, 2], abs=0.05)


@pytest.mark.parametrize("trailing", [True, False])
@pytest.mark.parametrize(("single", "one_group"), [("once", False), ("once", True), ("twice", True)])
def test_7_steps_and_measurements(trailing, single, one_group):
    """7: optimizer steps per iteration = M (`twice`: at least 2). Losses after the last group are measured if and only
    if `trailing_forward`."""
    strategy = single_group(single) if one_group else SequentialStrategy(SelectiveGroups(warmup_iterations=NEVER))
    strategy.grouping.trailing_forward = trailing
    objective = make_objective()
    strategy.setup(objective, adam, torch.Generator().manual_seed(0))
    seen = {"steps": 0, "forwards": 0, "none": 0, "observed": 0}
    strategy.optimizers[0].register_step_post_hook(lambda *_: seen.update(steps=seen["steps"] + 1))
    objective.model.backbone.register_forward_hook(lambda *_: seen.update(forwards=seen["forwards"] + 1))
    observe = strategy.grouping.observe

    def counted(losses, group):
        assert torch.isfinite(losses).all()
        assert torch.equal(losses, objective.measure_quietly()) if group is None else True
        seen.update(observed=seen["observed"] + 1, none=seen["none"] + (group is None))
        observe(losses, group)

    strategy.grouping.observe = counted
    batch = make_batches(count=1)[0]

    def measure_quietly():
        before = seen["forwards"]
        losses = objective.measure(batch)
        seen.update(forwards=before)
        return losses

    objective.measure_quietly = measure_quietly
    report = strategy.step(batch)
    groups = 3 if not one_group else {"once": 1, "twice": 2}[single]
    assert seen == {
        "steps": groups,
        "forwards": groups + trailing,
        "none": int(trailing),
        "observed": groups + trailing,
    }
    assert (report.cost.optimizer_steps, report.cost.forwards) == (groups, groups + trailing)
