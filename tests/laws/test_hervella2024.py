"""Acceptance properties of Hervella et al. 2024, for our reconstruction (mao).

Not here: 11, the shares per task and layer (their analysis does not exist yet). 3 for a whole network is also law 2 of
tests/contract/test_laws.py, and 7 for networks law 6.
"""

import copy

import pytest
import torch

from mtl.errors import ConfigError
from mtl.strategies import SequentialStrategy, SimultaneousStrategy
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
    train,
)
from tests.toys import point_batch, point_objective, random_targets, run_with_resume, same_state, scaled_loss

TASKS = ("a", "b", "c")
LR = 0.01


def run(targets, strategy=None, tasks=None, heads=False, size=4, make_optimizer=adam):
    """Train on given gradients (the losses are linear); the parameters afterwards."""
    objective = point_objective(tasks or tuple(targets[0]), size=size, heads=heads)
    batches = [point_batch(t) for t in targets]
    train(strategy or SimultaneousStrategy(), objective, batches, make_optimizer)
    return parameters_of(objective)


def optimizer_on(gradients, make_optimizer, start=1.0):
    """Where a plain torch optimizer goes with given gradients."""
    p = torch.nn.Parameter(torch.full_like(gradients[0], start))
    optimizer = make_optimizer([p])
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
    return p.detach()


def adam_at(lr):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def test_1_scale_of_a_loss():
    """1: multiplying L_n by a positive constant leaves the trajectory unchanged up to eps (factor 1e4)."""
    batches = make_batches(count=10)
    plain, scaled = (
        make_objective(),
        make_objective(
            specs=[make_spec("a"), make_spec("b", loss=scaled_loss(1e4)), make_spec("c", loss=scaled_loss(100.0))]
        ),
    )
    start = parameters_of(plain)
    for objective in (plain, scaled):
        train(build_strategy("mao"), objective, batches, adam)
    moved = distance(start, parameters_of(plain))
    assert distance(parameters_of(plain), parameters_of(scaled)) < 1e-4 * moved


def test_2_equal_shares():
    """2: gradient scales 1 : 10 : 0.001 give mean absolute update shares of about 1/3 each, while Adam on the summed
    loss gives .092/.908/.0001."""
    scales, size, steps = {"a": 1.0, "b": 10.0, "c": 0.001}, 500, 30
    targets = random_targets(scales, size=size, count=steps)
    moved, last = {}, {}
    for task in TASKS:
        own = [{task: t[task]} for t in targets]
        ends = [run(own[:n], size=size)["backbone.values"] for n in (steps - 1, steps)]
        moved[task], last[task] = ends[1] - 1.0, ends[1] - ends[0]
    together = run(targets, size=size)["backbone.values"]
    torch.testing.assert_close(together - 1.0, sum(moved.values()), rtol=1e-9, atol=1e-12)
    total = sum(u.abs().mean() for u in last.values())
    assert [(u.abs().mean() / total).item() for u in last.values()] == pytest.approx([1 / 3] * 3, abs=0.02)

    moments, second = dict.fromkeys(TASKS, 0.0), 0.0
    for t in targets:
        moments = {task: 0.9 * moments[task] + 0.1 * t[task] for task in TASKS}
        second = 0.999 * second + 0.001 * sum(t.values()) ** 2
    root = (second / (1 - 0.999**steps)).sqrt() + 1e-8
    split = {task: LR * moments[task] / (1 - 0.9**steps) / root for task in TASKS}
    ends = [run(targets[:n], build_strategy("uniform"), size=size)["backbone.values"] for n in (steps - 1, steps)]
    torch.testing.assert_close(ends[1] - ends[0], -sum(split.values()), rtol=1e-6, atol=1e-12)
    total = sum(u.abs().mean() for u in split.values())
    shares = [(u.abs().mean() / total).item() for u in split.values()]
    assert shares == pytest.approx([0.092, 0.908, 0.0001], abs=0.01)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_3_one_task_is_adam(reduce):
    """3: N = 1 is Adam exactly."""
    batches = make_batches(("a",), count=10)
    objective = make_objective(("a",))
    start = parameters_of(objective)
    train(SimultaneousStrategy(reduce), objective, batches, adam)
    plain = plain_steps(make_objective(("a",)), batches, adam)
    assert distance(parameters_of(objective), plain) < 1e-6 * distance(start, plain)


@pytest.mark.parametrize(
    ("reduce", "scope", "shared", "head"),
    [
        ("sum", "all", 1, 1),
        ("sum", "shared_only", 1, 1),
        ("mean", "all", 1 / 3, 1 / 3),
        ("mean", "shared_only", 1 / 3, 1),
    ],
)
def test_3_parameters_of_one_task(reduce, scope, shared, head):
    """3: a parameter used by one task only moves as under Adam (`sum`), or as Adam with alpha/N (`mean`); with
    `scope: shared_only` a head always moves as under Adam. Shared coordinates that one task uses count too."""
    targets = random_targets(dict(zip(TASKS, (1.0, 5.0, 0.2), strict=True)), size=6, count=8)
    for t in targets:
        for k, task in enumerate(TASKS):
            t[task][[i for i in range(6) if i // 2 != k]] = 0.0
    found = run(targets, SimultaneousStrategy(reduce, scope), heads=True, size=6)
    for k, task in enumerate(TASKS):
        own = slice(2 * k, 2 * k + 2)
        gradients = [t[task] for t in targets]
        expected = optimizer_on(gradients, adam_at(LR * shared))
        torch.testing.assert_close(found["backbone.values"][own], expected[own], rtol=1e-9, atol=0)
        expected = optimizer_on(gradients, adam_at(LR * head), start=0.0)
        torch.testing.assert_close(found[f"heads.{task}.bias"], expected, rtol=1e-9, atol=1e-15)


def test_4_first_step():
    """4: first step (up to eps): every task moves each coordinate by alpha against the sign of its gradient; total
    within [-N alpha, N alpha]."""
    targets = random_targets({"a": 1.0, "b": 100.0, "c": 0.1}, size=50, count=1)
    moved = run(targets, size=50)["backbone.values"] - 1.0
    expected = -LR * sum(t.sign() for t in targets[0].values())
    torch.testing.assert_close(moved, expected, rtol=0, atol=LR * 1e-4)
    assert moved.abs().max() <= 3 * LR
    assert set((expected / LR).round().int().tolist()) == {-3, -1, 1, 3}


@pytest.mark.parametrize(("reduce", "factor"), [("sum", 3), ("mean", 1)])
def test_5_identical_tasks(reduce, factor):
    """5: N identical tasks: `sum` equals Adam with N alpha, `mean` equals Adam with alpha."""
    one = random_targets({"a": 1.0}, count=10)
    found = run([dict.fromkeys(TASKS, t["a"]) for t in one], SimultaneousStrategy(reduce))
    expected = optimizer_on([t["a"] for t in one], adam_at(factor * LR))
    torch.testing.assert_close(found["backbone.values"], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_6_opposite_tasks(reduce):
    """6: two tasks with opposite gradients at every step: no motion."""
    one = random_targets({"a": 1.0}, count=10)
    found = run([{"a": t["a"], "b": -t["a"]} for t in one], SimultaneousStrategy(reduce))
    assert torch.equal(found["backbone.values"], torch.ones(4, dtype=torch.float64))
    scaled = run([{"a": t["a"], "b": -50 * t["a"]} for t in one], SimultaneousStrategy(reduce))
    torch.testing.assert_close(scaled["backbone.values"], torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("first_moment", ["per_task", "after_normalization"])
@pytest.mark.parametrize("weights", [None, {"a": 2.0, "b": 0.5, "c": 1.0}])
def test_7_order_of_tasks(first_moment, weights):
    """7: permuting tasks changes nothing beyond rounding."""
    batches = make_batches(count=10)
    results = []
    for order in (TASKS, ("c", "a", "b")):
        objective = make_objective(order)
        strategy = SimultaneousStrategy("mean", task_weights=weights, first_moment=first_moment)
        train(strategy, objective, batches, lambda p: torch.optim.RMSprop(p, lr=LR))
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-9


@pytest.mark.parametrize("first_moment", ["per_task", "after_normalization"])
def test_7_mean_is_sum_over_n(first_moment):
    """7: `mean` = `sum` / N from the same state."""
    batches = make_batches(count=4)
    first, objective = SimultaneousStrategy("sum", first_moment=first_moment), make_objective()
    train(first, objective, batches[:3], adam)
    earlier, state = parameters_of(objective), copy.deepcopy(first.state_dict())
    moved = []
    for reduce in ("sum", "mean"):
        continued = make_objective()
        continued.model.load_state_dict(earlier)
        strategy = SimultaneousStrategy(reduce, first_moment=first_moment)
        strategy.setup(continued, adam, torch.Generator())
        strategy.load_state_dict(copy.deepcopy(state))
        strategy.step(batches[3])
        factor = 1 if reduce == "sum" else 3
        moved.append({key: factor * (p - earlier[key]) for key, p in parameters_of(continued).items()})
    assert distance(*moved) < 1e-12


def test_8_static_weights():
    """8: static positive loss weights have no effect; the same numbers as `task_weights` do, and act as a learning
    rate per task."""
    weights = {"a": 2.0, "b": 0.1, "c": 30.0}
    targets = random_targets(dict.fromkeys(TASKS, 1.0), count=8)
    plain = run(targets)["backbone.values"]
    inside = run([{task: weights[task] * t[task] for task in t} for t in targets])["backbone.values"]
    torch.testing.assert_close(inside, plain, rtol=0, atol=1e-6)
    outside = run(targets, SimultaneousStrategy(task_weights=weights))["backbone.values"]
    assert (outside - plain).abs().max() > 0.01
    alone = [optimizer_on([t[task] for t in targets], adam_at(LR * weights[task])) - 1.0 for task in TASKS]
    torch.testing.assert_close(outside - 1.0, sum(alone), rtol=1e-9, atol=1e-12)


def test_8_weights_have_to_name_the_tasks():
    """8: `task_weights` with a task missing, one too many, or a weight that is not positive are refused."""
    for weights in ({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}):
        strategy = SimultaneousStrategy(task_weights=weights)
        with pytest.raises(ConfigError, match="task_weights"):
            strategy.setup(make_objective(), adam, torch.Generator())
    for bad in (0.0, -1.0):
        with pytest.raises(ConfigError, match="task_weights"):
            SimultaneousStrategy(task_weights={"a": 1.0, "b": bad, "c": 1.0})


def test_9_constant_gradients():
    """9: losses linear in the parameters: equal to MTL-IO."""
    targets = random_targets({"a": 1.0, "b": 10.0, "c": 0.1}, count=8)
    io = run(targets, build_strategy("igd_per_task"), heads=True)
    assert distance(run(targets, heads=True), io) < 1e-12
    weighted = SequentialStrategy(
        build_strategy("igd_per_task").grouping, optimizer_state="per_task", weighting=Static([1.0, 5.0, 9.0])
    )
    assert distance(run(targets, weighted, heads=True), io) < 1e-5


def test_9_disjoint_parameters():
    """9: tasks on disjoint parameters: equal to MTL-IO and to separate training (quadratic losses: gradients move)."""

    def masked(k):
        mask = torch.zeros(6, dtype=torch.float64)
        mask[2 * k : 2 * k + 2] = 1.0
        return lambda prediction, target: (mask * (prediction - target) ** 4).sum()

    batches = [point_batch(t) for t in random_targets(dict.fromkeys(TASKS, 2.0), size=6, count=10)]
    results = {}
    for name in ("mao", "igd_per_task", "uniform"):
        objective = point_objective(TASKS, size=6)
        objective.specs = tuple(make_spec(task, loss=masked(k)) for k, task in enumerate(TASKS))
        train(build_strategy(name), objective, batches, adam)
        results[name] = parameters_of(objective)
    assert distance(results["mao"], results["igd_per_task"]) < 1e-12
    for k, task in enumerate(TASKS):
        alone = point_objective((task,), size=6)
        alone.specs = (make_spec(task, loss=masked(k)),)
        expected = plain_steps(alone, batches, adam)["backbone.values"]
        own = slice(2 * k, 2 * k + 2)
        torch.testing.assert_close(results["mao"]["backbone.values"][own], expected[own], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "make_optimizer"),
    [
        ({}, adam),
        ({"first_moment": "after_normalization"}, lambda p: torch.optim.RMSprop(p, lr=LR)),
        ({"weight_decay": "decoupled"}, lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.1)),
    ],
)
def test_10_resume(options, make_optimizer):
    """10: state (m, v per task, t) survives checkpoint and resume bit for bit."""
    whole, parts = run_with_resume(
        lambda: SimultaneousStrategy(**options), make_objective, make_batches(count=7), make_optimizer, cut=3
    )
    assert distance(whole[0], parts[0]) == 0
    assert same_state(whole[1].state_dict(), parts[1].state_dict())
    states = [optimizer.state_dict()["state"] for optimizer in whole[1].optimizers]
    assert [{int(s["step"]) for s in state.values()} for state in states] == [{7}] * 3
