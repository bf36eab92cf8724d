"""Acceptance properties of Pascal et al. 2021 (IUS = igd, IO = igd_per_task, SUS = uniform).

Not here: 2 (laws 2 and 3 of tests/contract/test_laws.py); 11, the exploration trace (its analysis does not exist yet).
9 describes the released code's log; ours reports the losses before the first update, and that is tested in its place.
"""

import math

import pytest
import torch
from torch import nn

from mtl.grouping import RandomGroups, Singletons
from mtl.models.model import MultiTaskModel
from mtl.strategies import SequentialStrategy
from mtl.weighting import Static
from tests.problems import (
    adam,
    build_strategy,
    distance,
    make_batches,
    make_objective,
    make_spec,
    parameters_of,
    plain_steps,
    sgd,
    train,
)
from tests.toys import linear, point_batch, point_objective, random_targets, run_with_resume, same_state, scaled_loss

TASKS = ("a", "b", "c")
FIVE = ("a", "b", "c", "d", "e")


def plain_sgd(lr):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


@pytest.mark.parametrize("grouping", [lambda: Singletons("shuffled"), lambda: RandomGroups(2, "step")])
def test_1_sgd_knows_no_states(grouping):
    """1: plain SGD, IO and IUS give identical trajectories (also for groups, and in shuffled order)."""
    batches = make_batches(FIVE)
    results = []
    for state in ("per_task", "shared"):
        objective = make_objective(FIVE)
        train(SequentialStrategy(grouping(), optimizer_state=state), objective, batches, sgd)
        results.append(parameters_of(objective))
    assert distance(*results) == 0


def gap_to_uniform(make_optimizer):
    batch = make_batches(count=1)
    ius, sus = make_objective(), make_objective()
    train(build_strategy("igd"), ius, batch, make_optimizer)
    plain_steps(sus, batch, make_optimizer)
    return torch.cat(
        [(x - y).reshape(-1) for x, y in zip(parameters_of(ius).values(), parameters_of(sus).values(), strict=True)]
    ).norm()


def test_3_ius_is_sus_for_small_learning_rates():
    """3: plain SGD, |th_IUS - th_SUS| / eta -> 0 linearly as eta -> 0. Does not hold with Adam."""
    etas = [4e-3, 2e-3, 1e-3]
    ratios = [gap_to_uniform(plain_sgd(eta)).item() / eta for eta in etas]
    slopes = [math.log2(ratios[0] / ratios[1]), math.log2(ratios[1] / ratios[2])]
    assert ratios[0] > 1e-6
    assert slopes == pytest.approx([1, 1], abs=0.05)
    under_adam = [gap_to_uniform(lambda p, eta=eta: torch.optim.Adam(p, lr=eta)).item() / eta for eta in etas]
    assert under_adam[-1] > 0.5 * under_adam[0] > 0.1


@pytest.mark.parametrize(("name", "invariant"), [("igd_per_task", True), ("igd", False), ("uniform", False)])
@pytest.mark.parametrize("scaled", TASKS)
def test_4_io_does_not_see_the_scale_of_a_loss(name, invariant, scaled):
    """4: IO is invariant to multiplying any L_k by a positive constant, up to eps; IUS and SUS are not."""
    batches = make_batches(count=10)
    plain = make_objective()
    other = make_objective(specs=[make_spec(t, loss=scaled_loss(1e3 if t == scaled else 1.0)) for t in TASKS])
    for objective in (plain, other):
        train(build_strategy(name), objective, batches, adam)
    difference = distance(parameters_of(plain), parameters_of(other))
    assert (difference < 1e-5) if invariant else (difference > 1e-2)


def test_4_loss_weights_in_front_of_io_have_no_effect():
    """4, as seen by a user: static loss weights cancel in IO."""
    batches = make_batches()
    results = []
    for weights in ([1.0, 1.0, 1.0], [0.1, 30.0, 1e3]):
        objective = make_objective()
        strategy = SequentialStrategy(Singletons(), optimizer_state="per_task", weighting=Static(weights))
        train(strategy, objective, batches, adam)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-5


def test_5_first_moves_are_signs():
    """5: Adam, first batch: sub-step k of IO moves each shared coordinate with non-zero gradient by eta in the
    direction -sign(g), so at most K eta in all."""
    eta = 0.01
    objective = make_objective()
    strategy = build_strategy("igd_per_task")
    strategy.setup(objective, lambda p: torch.optim.Adam(p, lr=eta), torch.Generator())
    shared = objective.shared_parameters()
    seen = []

    def before(optimizer, args, kwargs):
        seen.append([(p.detach().clone(), p.grad.clone()) for p in shared])

    def after(optimizer, args, kwargs):
        for p, (old, gradient) in zip(shared, seen[-1], strict=True):
            used = gradient.abs() > 1e-3  # eps / |g| < 1e-5
            assert used.float().mean() > 0.5
            expected = -eta * gradient.sign()
            torch.testing.assert_close((p.detach() - old)[used], expected[used], rtol=2e-5, atol=0)

    for optimizer in strategy.optimizers:
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
    start = [p.detach().clone() for p in shared]
    strategy.step(make_batches(count=1)[0])
    assert len(seen) == 3
    assert max((p.detach() - old).abs().max().item() for p, old in zip(shared, start, strict=True)) <= 3 * eta


class Slice(nn.Module):
    """A head that reads two of the shared features."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start
        self.linear = nn.Linear(2, 3)

    def forward(self, features):
        return self.linear(features[:, self.start : self.start + 2])


def disjoint_objective(tasks):
    """Task k's gradient is zero but for rows 2k and 2k + 1 of the one shared layer."""
    torch.manual_seed(5)
    backbone = nn.Linear(5, 6)
    heads = {}
    for task in tasks:
        torch.manual_seed(ord(task))
        heads[task] = Slice(2 * TASKS.index(task))
    model = MultiTaskModel(backbone, heads).to(torch.float64)
    return make_objective(specs=[make_spec(task) for task in tasks], model=model)


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
def test_6_tasks_on_disjoint_coordinates_are_trained_alone(order):
    """6: tasks acting on disjoint shared coordinates: IO equals training each task alone with its own Adam, whatever
    the order; IUS does not (its moments decay K times)."""
    batches = make_batches()
    together = {}
    for state in ("per_task", "shared"):
        objective = disjoint_objective(TASKS)
        assert len(objective.shared_parameters()) == 2
        train(SequentialStrategy(Singletons(order), optimizer_state=state), objective, batches, adam)
        together[state] = parameters_of(objective)
    difference = dict.fromkeys(together, 0.0)
    for k, task in enumerate(TASKS):
        alone = plain_steps(disjoint_objective((task,)), batches, adam)
        for state, found in together.items():
            rows = slice(2 * k, 2 * k + 2)
            pairs = [(found[f"backbone.{p}"][rows], alone[f"backbone.{p}"][rows]) for p in ("weight", "bias")]
            if state == "per_task":
                pairs += [(found[key], alone[key]) for key in alone if key.startswith("heads")]
            difference[state] = max(difference[state], *((x - y).abs().max().item() for x, y in pairs))
    assert difference["per_task"] < 1e-12
    assert difference["shared"] > 1e-3


def test_7_constant_gradients_make_io_simultaneous():
    """7: losses linear in the parameters: IO equals the simultaneous per-task rule (mao) with `reduce: sum`."""
    batches = [point_batch(targets) for targets in random_targets({"a": 1.0, "b": 10.0, "c": 0.1})]
    results = []
    for name in ("igd_per_task", "mao", "igd"):
        objective = point_objective(TASKS, loss=linear, heads=True)
        train(build_strategy(name), objective, batches, adam)
        results.append(parameters_of(objective))
    assert distance(results[0], results[1]) < 1e-12
    assert distance(results[0], results[2]) > 1e-3


def counters(optimizer, parameters):
    return [int(optimizer.state[p]["step"]) if p in optimizer.state else None for p in parameters]


def test_8_step_counters():
    """8: step counters after n batches: n for each IO optimizer, K n for the shared parameters under IUS; a foreign
    head has no state in IO, and counts sub-steps in IUS only with `zero_grads: zeros`, once it has moments."""
    n, batches = 4, make_batches(count=4)
    for name, zero_grads in (("igd_per_task", "none"), ("igd", "none"), ("igd", "zeros")):
        objective = make_objective()
        strategy = build_strategy(name, f"strategy.zero_grads={zero_grads}")
        train(strategy, objective, batches, adam)
        shared = objective.shared_parameters()
        heads = [objective.task_parameters(k) for k in range(3)]
        if name == "igd_per_task":
            assert len(strategy.optimizers) == 3
            for k, optimizer in enumerate(strategy.optimizers):
                assert set(counters(optimizer, shared)) == {n}
                assert [set(counters(optimizer, head)) for head in heads] == [{n if j == k else None} for j in range(3)]
        else:
            (optimizer,) = strategy.optimizers
            assert set(counters(optimizer, shared)) == {3 * n}
            expected = [n, n, n] if zero_grads == "none" else [3 * n, 3 * n - 1, 3 * n - 2]
            assert [set(counters(optimizer, head)) for head in heads] == [{count} for count in expected]


@pytest.mark.parametrize(
    ("name", "zero_grads", "moves"),
    [("igd_per_task", "none", False), ("igd", "none", False), ("igd", "zeros", True)],
)
def test_8_foreign_heads(name, zero_grads, moves):
    """8: foreign heads in a sub-step: unmoved in IO; in IUS moved with zeros once they have moments, unmoved with
    `none`."""
    objective = make_objective()
    strategy = build_strategy(name, f"strategy.zero_grads={zero_grads}")
    strategy.setup(objective, adam, torch.Generator())
    heads = [objective.task_parameters(k) for k in range(3)]
    moved = []

    def snapshot():
        return [[p.detach().clone() for p in head] for head in heads]

    state = {"last": snapshot()}

    def after(optimizer, args, kwargs):
        now = snapshot()
        moved.append(
            [
                any(not torch.equal(x, y) for x, y in zip(*pair, strict=True))
                for pair in zip(now, state["last"], strict=True)
            ]
        )
        state["last"] = now

    for optimizer in strategy.optimizers:
        optimizer.register_step_post_hook(after)
    for batch in make_batches(count=2):
        strategy.step(batch)
    own = [[j == k for j in range(3)] for k in range(3)]
    earlier = [[j <= k for j in range(3)] for k in range(3)]
    assert moved == ([*earlier, *[[True] * 3] * 3] if moves else [*own, *own])


@pytest.mark.parametrize("name", ["igd", "igd_per_task", "random_groups", "selective_groups"])
def test_9_reported_losses_are_those_before_the_step(name):
    """9, replaced: the report's losses are those of every task before the first update of the batch."""
    objective = make_objective()
    strategy = build_strategy(name)
    strategy.setup(objective, adam, torch.Generator().manual_seed(0))
    for batch in make_batches():
        expected = objective.measure(batch)
        report = strategy.step(batch)
        assert torch.equal(report.losses, expected)
        assert not torch.equal(objective.measure(batch), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("regroup", ["run", "epoch", "step"])
def test_10_groups(size, regroup):
    """10: groups form a partition, sizes at most s, count ceil(n/s), reproducible from the seed."""
    batches = make_batches(FIVE)
    runs = []
    for _ in range(2):
        strategy = SequentialStrategy(RandomGroups(size, regroup), optimizer_state="per_task")
        runs.append([report.groups for report in train(strategy, make_objective(FIVE), batches, adam, seed=4)])
    assert runs[0] == runs[1]
    for groups in runs[0]:
        assert sorted(task for group in groups for task in group) == [0, 1, 2, 3, 4]
        assert max(map(len, groups)) <= size
        assert len(groups) == math.ceil(5 / size)
    if regroup == "run":
        assert len(set(runs[0])) == 1


@pytest.mark.parametrize("regroup", ["run", "step"])
@pytest.mark.parametrize("state", ["shared", "per_task"])
def test_10_resume(regroup, state):
    """10: groups are unchanged after resume. A checkpoint restores all K optimizers."""

    def strategy():
        return SequentialStrategy(RandomGroups(2, regroup), optimizer_state=state)

    batches = make_batches(FIVE, count=8)
    whole, parts = run_with_resume(strategy, lambda: make_objective(FIVE), batches, adam, cut=3)
    assert whole[1].grouping.groups == parts[1].grouping.groups
    assert len(parts[1].optimizers) == (5 if state == "per_task" else 1)
    assert same_state(whole[1].state_dict(), parts[1].state_dict())
    assert distance(whole[0], parts[0]) == 0
