import copy

import pytest
import torch

from mtl.errors import ConfigError
from mtl.grouping import RandomGroups, SelectiveGroups, Singletons
from mtl.strategies import LossWeightingStrategy, SequentialStrategy
from mtl.weighting import DWA, Static, Uncertainty, Uniform
from tests.problems import adam, distance, make_batches, make_objective, make_spec, parameters_of, sgd, train
from tests.toys import point_batch, point_objective, random_targets, run_with_resume, same_state, scaled_loss

TASKS = ("a", "b", "c")
STATES = ["shared", "per_task"]


def result(strategy, specs=None, count=6, make_optimizer=adam):
    objective = make_objective(specs=specs)
    reports = train(strategy, objective, make_batches(count=count), make_optimizer)
    return parameters_of(objective), reports


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_divided_learning_rate(state, make):
    """Singletons: each of the m sub-steps at lr / m, for shared parameters and heads."""
    divided, _ = result(
        SequentialStrategy(Singletons(), state, lr_per_substep="divided"), make_optimizer=lambda p: make(p, lr=0.03)
    )
    third, _ = result(SequentialStrategy(Singletons(), state), make_optimizer=lambda p: make(p, lr=0.01))
    full, _ = result(SequentialStrategy(Singletons(), state), make_optimizer=lambda p: make(p, lr=0.03))
    assert distance(divided, third) < 1e-12
    assert distance(divided, full) > 1e-3


@pytest.mark.parametrize(("size", "groups"), [(2, 2), (3, 1)])
def test_divided_learning_rate_of_fixed_groups(size, groups):
    divided, _ = result(
        SequentialStrategy(RandomGroups(size, "run"), lr_per_substep="divided"),
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.03 * groups),
    )
    full, _ = result(
        SequentialStrategy(RandomGroups(size, "run")), make_optimizer=lambda p: torch.optim.Adam(p, lr=0.03)
    )
    assert distance(divided, full) < 1e-12


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("divided", ["full", "divided"])
def test_head_learning_rate(state, divided):
    """Heads at m times the rate of the rest; schedulers built afterwards keep the ratio."""
    objective = make_objective()
    strategy = SequentialStrategy(Singletons(), state, lr_per_substep=divided, head_lr_multiplier="num_tasks")
    strategy.setup(objective, adam, torch.Generator())
    base = 0.01  # `divided` acts inside a step and leaves the schedulers' rates alone
    shared = {id(p) for p in objective.shared_parameters()}
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5) for optimizer in strategy.optimizers]
    for epoch in range(3):
        for optimizer in strategy.optimizers:
            rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
            assert set(rates) == {id(p) for p in objective.model.parameters()}
            for key, rate in rates.items():
                assert rate == pytest.approx(base * 0.5**epoch * (1 if key in shared else 3))
        strategy.step(make_batches(count=1)[0])
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("state", STATES)
def test_head_learning_rate_moves_heads_further(state):
    """With constant gradients, heads move 3 times as far, the shared parameters as before."""
    targets = random_targets(dict.fromkeys(TASKS, 1.0))
    moved = {}
    for multiplier in ("one", "num_tasks"):
        objective = point_objective(heads=True)
        start = parameters_of(objective)
        strategy = SequentialStrategy(Singletons(), state, head_lr_multiplier=multiplier)
        train(strategy, objective, [point_batch(t) for t in targets], adam)
        moved[multiplier] = {key: p - start[key] for key, p in parameters_of(objective).items()}
    for key, step in moved["one"].items():
        factor = 3 if key.startswith("heads") else 1
        torch.testing.assert_close(moved["num_tasks"][key], factor * step, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("state", STATES)
def test_mean_of_one_group_is_the_mean_of_all(state):
    mine, _ = result(SequentialStrategy(RandomGroups(3), state, reduce="mean"), make_optimizer=sgd)
    assert distance(mine, result(LossWeightingStrategy(Uniform("mean")), make_optimizer=sgd)[0]) < 1e-12


def test_mean_counts_the_tasks_of_each_group():
    """Constant gradients, SGD: a pair moves the parameters by half the sum, a task alone by all of its gradient."""
    targets = random_targets(dict.fromkeys(TASKS, 1.0), count=1)[0]
    for reduce in ("sum", "mean"):
        objective = point_objective()
        strategy = SequentialStrategy(RandomGroups(2), reduce=reduce)
        (report,) = train(strategy, objective, [point_batch(targets)], sgd)
        assert sorted(map(len, report.groups)) == [1, 2]
        step = sum(
            targets[TASKS[k]] / (len(group) if reduce == "mean" else 1) for group in report.groups for k in group
        )
        found = parameters_of(objective)["backbone.values"]
        torch.testing.assert_close(found, 1 - 0.05 * step, rtol=1e-12, atol=1e-12)


GROUPINGS = [Singletons, lambda: RandomGroups(2, "step"), lambda: SelectiveGroups(warmup_iterations=2)]


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_static_weights_in_front_are_scaled_losses(grouping, reduce):
    weights = {"a": 0.5, "b": 20.0, "c": 3.0}
    specs = [make_spec(task, loss=scaled_loss(w)) for task, w in weights.items()]
    front, reports = result(SequentialStrategy(grouping(), reduce=reduce, weighting=Static(weights)))
    scaled, expected = result(SequentialStrategy(grouping(), reduce=reduce), specs)
    plain, _ = result(SequentialStrategy(grouping(), reduce=reduce))
    assert distance(front, scaled) < 1e-9
    assert distance(front, plain) > 1e-3
    assert [r.groups for r in reports] == [r.groups for r in expected]


def test_weights_are_taken_once_per_batch():
    seen = []

    class Counted(Static):
        def weigh(self, losses):
            seen.append(losses.clone())
            return super().weigh(losses)

    _, reports = result(SequentialStrategy(Singletons(), weighting=Counted([1.0, 2.0, 3.0])), count=4)
    assert len(seen) == 4
    assert all(torch.equal(losses, report.losses) for losses, report in zip(seen, reports, strict=True))


@pytest.mark.parametrize("state", STATES)
def test_uncertainty_in_front_learns(state):
    """One SGD step: s <- s - lr (1/2 - a exp(-s) L), with its own learning rate and no weight decay."""
    weighting = Uncertainty(initial_log_variance=0.3, lr=0.2)
    strategy = SequentialStrategy(Singletons(), state, weighting=weighting)

    def decayed(parameters):
        return torch.optim.SGD(parameters, lr=0.05, weight_decay=0.5)

    _, (report,) = result(strategy, count=1, make_optimizer=decayed)
    gradient = 0.5 - 0.5 * torch.exp(torch.tensor(-0.3)) * report.losses
    torch.testing.assert_close(weighting.log_variance.detach().double(), 0.3 - 0.2 * gradient, rtol=1e-6, atol=1e-6)
    assert len(strategy.optimizers) == (4 if state == "per_task" else 2)


@pytest.mark.parametrize("options", [{"lr_per_substep": "divided"}, {"head_lr_multiplier": "num_tasks"}])
def test_learning_rate_options_leave_log_variances_alone(options):
    found = []
    for more in ({}, options):
        weighting = Uncertainty()
        result(SequentialStrategy(Singletons(), weighting=weighting, **more), count=1, make_optimizer=sgd)
        found.append(weighting.log_variance.detach())
    assert torch.equal(*found)
    assert found[0].any()


def test_one_group_with_uncertainty_is_uncertainty():
    weightings = [Uncertainty(lr=0.1), Uncertainty(lr=0.1)]
    mine, _ = result(SequentialStrategy(RandomGroups(3), weighting=weightings[0]))
    plain, _ = result(LossWeightingStrategy(weightings[1]))
    assert distance(mine, plain) < 1e-7  # log-variances are float32
    torch.testing.assert_close(weightings[0].log_variance, weightings[1].log_variance, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("weighting", [lambda: Uncertainty(lr=0.1), lambda: DWA(window="steps", window_steps=2)])
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_resume(state, weighting, grouping):
    def strategy():
        zero_grads = "zeros" if state == "shared" else "none"
        return SequentialStrategy(grouping(), state, weighting=weighting(), zero_grads=zero_grads)

    whole, parts = run_with_resume(strategy, make_objective, make_batches(count=9), adam, cut=5)
    assert distance(whole[0], parts[0]) == 0
    assert same_state(whole[1].state_dict(), parts[1].state_dict())


def test_zeroed_gradients_move_heads_by_momentum():
    """`zeros`: three sub-steps move a head with momentum; the shared parameters do not notice (constant gradients)."""
    targets = random_targets(dict.fromkeys(TASKS, 1.0))

    def momentum(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)

    found = {}
    for zero_grads in ("none", "zeros"):
        objective = point_objective(heads=True)
        strategy = SequentialStrategy(Singletons(), zero_grads=zero_grads)
        train(strategy, objective, [point_batch(t) for t in targets], momentum)
        found[zero_grads] = parameters_of(objective)
    assert torch.equal(found["none"]["backbone.values"], found["zeros"]["backbone.values"])
    for k, task in enumerate(TASKS):
        for zero_grads in ("none", "zeros"):
            position = velocity = torch.zeros(4, dtype=torch.float64)
            for index, t in enumerate(targets):
                for sub_step in range(3):
                    if sub_step == k:
                        velocity = 0.9 * velocity + t[task]
                    elif zero_grads == "zeros" and (index > 0 or sub_step > k):
                        velocity = 0.9 * velocity
                    else:
                        continue
                    position = position - 0.05 * velocity
            torch.testing.assert_close(found[zero_grads][f"heads.{task}.bias"], position, rtol=1e-9, atol=1e-12)


def test_zeroed_gradients_decay_heads_without_momentum():
    """As PyTorch before 2.0: a zero gradient lets weight decay act in every sub-step."""
    objective = point_objective(heads=True)
    strategy = SequentialStrategy(Singletons(), zero_grads="zeros")
    strategy.setup(objective, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5), torch.Generator())
    zeros = point_batch(dict.fromkeys(TASKS, torch.zeros(4)))
    strategy.step(zeros)
    with torch.no_grad():
        for head in objective.model.heads.values():
            head.bias.fill_(1.0)
    strategy.step(zeros)
    for head in objective.model.heads.values():
        torch.testing.assert_close(head.bias.detach(), torch.full((4,), 0.95**3, dtype=torch.float64))


def test_per_task_state_is_that_of_the_first_task():
    """A group (i, j) with i < j uses and advances optimizer i alone."""
    strategy = SequentialStrategy(RandomGroups(2), "per_task")
    _, reports = result(strategy, count=4)
    used = {min(group) for group in reports[0].groups}
    for k, optimizer in enumerate(strategy.optimizers):
        assert bool(optimizer.state) == (k in used)


def test_reported_cost_and_order():
    strategy = SequentialStrategy(Singletons("shuffled"))
    _, reports = result(strategy, count=5)
    order = copy.deepcopy([report.groups for report in reports])
    assert len(set(order)) > 1
    assert all(report.cost.optimizer_steps == 3 for report in reports)
    assert all(report.weights is None for report in reports)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer_state", "per_group"),
        ("reduce", "max"),
        ("zero_grads", "zero"),
        ("lr_per_substep", 0.5),
        ("head_lr_multiplier", 3),
    ],
)
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        SequentialStrategy(Singletons(), **{name: value})
