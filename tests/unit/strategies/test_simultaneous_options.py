import pytest
import torch
from torch import nn

from mtl.errors import ConfigError, NonFiniteError, RequirementError, RunDirectoryError
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.strategies import SimultaneousStrategy
from tests.problems import (
    adam,
    distance,
    make_batches,
    make_model,
    make_objective,
    make_spec,
    parameters_of,
    plain_steps,
    sgd,
    train,
)
from tests.toys import point_batch, point_objective, random_targets

TASKS = ("a", "b", "c")
LR = 0.01


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=LR, weight_decay=0.3)


def adam_with_decay(parameters):
    return torch.optim.Adam(parameters, lr=LR, weight_decay=0.3)


def rmsprop(parameters):
    return torch.optim.RMSprop(parameters, lr=LR)


@pytest.mark.parametrize("make_optimizer", [adamw, adam_with_decay])
def test_weight_decay_is_refused(make_optimizer):
    with pytest.raises(ConfigError, match="weight_decay"):
        SimultaneousStrategy().setup(make_objective(), make_optimizer, torch.Generator())


@pytest.mark.parametrize("make_optimizer", [adamw, adam_with_decay])
def test_decoupled_weight_decay_of_one_task_is_adamw(make_optimizer):
    batches = make_batches(("a",), count=10)
    objective = make_objective(("a",))
    train(SimultaneousStrategy(weight_decay="decoupled"), objective, batches, make_optimizer)
    assert distance(parameters_of(objective), plain_steps(make_objective(("a",)), batches, adamw)) < 1e-12


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_decoupled_weight_decay_acts_once(reduce):
    """Whatever the number of tasks, and on heads too."""
    objective = point_objective(heads=True)
    with torch.no_grad():
        for p in objective.model.parameters():
            p.fill_(2.0)
    zeros = point_batch(dict.fromkeys(TASKS, torch.zeros(4)))
    train(SimultaneousStrategy(reduce, weight_decay="decoupled"), objective, [zeros] * 5, adamw)
    expected = torch.full((4,), 2.0 * (1 - LR * 0.3) ** 5, dtype=torch.float64)
    for p in parameters_of(objective).values():
        torch.testing.assert_close(p, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("make_optimizer", [adamw, adam_with_decay])
def test_decoupled_weight_decay_stays_out_of_the_updates(make_optimizer):
    """theta <- (1 - lr wd) theta - sum_k u_k, with the u_k of optimizers without decay."""
    batches = [point_batch(t) for t in random_targets({"a": 1.0, "b": 10.0, "c": 0.1})]
    decayed, plain = point_objective(), point_objective()
    strategies = SimultaneousStrategy(weight_decay="decoupled"), SimultaneousStrategy()
    strategies[0].setup(decayed, make_optimizer, torch.Generator())
    strategies[1].setup(plain, adam, torch.Generator())
    expected = torch.ones(4, dtype=torch.float64)
    for batch in batches:
        before = parameters_of(plain)["backbone.values"]
        for strategy in strategies:
            strategy.step(batch)
        expected = (1 - LR * 0.3) * expected + parameters_of(plain)["backbone.values"] - before
    torch.testing.assert_close(parameters_of(decayed)["backbone.values"], expected, rtol=1e-12, atol=0)


def test_decoupled_weight_decay_follows_the_schedule():
    objective = point_objective()
    strategy = SimultaneousStrategy(weight_decay="decoupled")
    strategy.setup(objective, adamw, torch.Generator())
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1) for optimizer in strategy.optimizers]
    for _ in range(2):
        strategy.step(point_batch(dict.fromkeys(TASKS, torch.zeros(4))))
        for scheduler in schedulers:
            scheduler.step()
    expected = (1 - LR * 0.3) * (1 - 0.1 * LR * 0.3)
    assert parameters_of(objective)["backbone.values"].tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize("weights", [{"a": 0.1, "b": 1.0, "c": 1.0}, {"a": 5.0, "b": 1.0, "c": 1e-3}])
def test_decoupled_weight_decay_does_not_depend_on_task_weights(weights):
    objective = point_objective()
    strategy = SimultaneousStrategy(task_weights=weights, weight_decay="decoupled")
    train(strategy, objective, [point_batch(dict.fromkeys(TASKS, torch.zeros(4)))], adamw)
    assert parameters_of(objective)["backbone.values"].tolist() == pytest.approx([1 - LR * 0.3] * 4)


def test_decay_leaves_frozen_parameters_alone():
    model = make_model(TASKS)
    model.backbone.first.requires_grad_(False)
    objective = make_objective(model=model)
    before = model.backbone.first.weight.clone()
    train(SimultaneousStrategy(weight_decay="decoupled"), objective, make_batches(count=1), adamw)
    assert torch.equal(before, model.backbone.first.weight)


def after_normalization_by_hand(targets, reduce, momentum):
    """theta <- theta - lr mhat, m the average of sum_n g_n / (sqrt(v_n) + eps); RMSprop's alpha is 0.99."""
    seconds = dict.fromkeys(TASKS, 0.0)
    theta, buffer = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for step, gradients in enumerate(targets, start=1):
        seconds = {task: 0.99 * seconds[task] + 0.01 * g**2 for task, g in gradients.items()}
        total = sum(g / (seconds[task].sqrt() + 1e-8) for task, g in gradients.items())
        buffer = momentum * buffer + (1 - momentum) * total / (3 if reduce == "mean" else 1)
        theta = theta - LR * buffer / (1 - momentum**step)
    return theta


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_first_moment_after_normalization(reduce, momentum):
    targets = random_targets({"a": 1.0, "b": 10.0, "c": 0.1}, count=8)
    objective = point_objective()
    strategy = SimultaneousStrategy(reduce, first_moment="after_normalization", momentum=momentum)
    train(strategy, objective, [point_batch(t) for t in targets], rmsprop)
    expected = after_normalization_by_hand(targets, reduce, momentum)
    torch.testing.assert_close(parameters_of(objective)["backbone.values"], expected, rtol=1e-9, atol=0)


def test_momentum_has_an_influence_after_normalization_only():
    def final(**options):
        objective = make_objective()
        train(SimultaneousStrategy(**options), objective, make_batches(), rmsprop)
        return parameters_of(objective)

    assert distance(final(momentum=0.5), final(momentum=0.9)) == 0
    after = {"first_moment": "after_normalization"}
    assert distance(final(momentum=0.5, **after), final(momentum=0.9, **after)) > 1e-3
    assert distance(final(momentum=0.0, **after), final()) < 1e-12


def test_momentum_of_one_is_refused():
    with pytest.raises(ConfigError, match="momentum"):
        SimultaneousStrategy(first_moment="after_normalization", momentum=1.0)


class Proportional(torch.optim.Optimizer):
    """Moves every parameter by a step that is proportional to it."""

    def __init__(self, params):
        super().__init__(params, {"lr": LR, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.abs() * p.grad.sign())


class TrustRatio(Proportional):
    """As LARS and LAMB: the step of a tensor is proportional to the norm of the tensor."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.norm() * p.grad / p.grad.norm())


@pytest.mark.parametrize(
    "make_optimizer",
    [
        Proportional,
        TrustRatio,
        lambda p: torch.optim.Adafactor(p, lr=LR, weight_decay=0.0),
    ],
)
def test_an_update_that_depends_on_the_parameter_is_refused(make_optimizer):
    with pytest.raises(RequirementError, match="depends on gradients alone"):
        SimultaneousStrategy().setup(make_objective(), make_optimizer, torch.Generator())


@pytest.mark.parametrize(
    "make_optimizer",
    [
        adam,
        sgd,
        rmsprop,
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adagrad(p, lr=LR),
        lambda p: torch.optim.Adam(p, lr=LR, fused=True),
        lambda p: torch.optim.RMSprop(p, lr=LR, momentum=0.9, centered=True),
    ],
)
def test_optimizers_of_gradients_alone_sum_their_updates(make_optimizer):
    """Each task's update on its own, from the same gradients, adds up to the joint one."""
    targets = random_targets({"a": 1.0, "b": 10.0, "c": 0.1}, count=5)

    def moved(tasks):
        objective = point_objective(tasks)
        batches = [point_batch({task: t[task] for task in tasks}) for t in targets]
        train(SimultaneousStrategy(), objective, batches, make_optimizer)
        return parameters_of(objective)["backbone.values"] - 1.0

    torch.testing.assert_close(moved(TASKS), sum(moved((task,)) for task in TASKS), rtol=1e-9, atol=1e-12)


def test_schedulers_act_on_every_task():
    """Learning rates halved half way: as if every optimizer had been built with them."""
    targets = random_targets(dict.fromkeys(TASKS, 1.0), count=2)
    objective = point_objective()
    strategy = SimultaneousStrategy(task_weights={"a": 1.0, "b": 2.0, "c": 3.0})
    strategy.setup(objective, sgd, torch.Generator())
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5) for optimizer in strategy.optimizers]
    for t in targets:
        strategy.step(point_batch(t))
        for scheduler in schedulers:
            scheduler.step()
    expected = 1.0 - sum(
        0.05 * rate * (t["a"] + 2 * t["b"] + 3 * t["c"]) for rate, t in zip((1.0, 0.5), targets, strict=True)
    )
    torch.testing.assert_close(parameters_of(objective)["backbone.values"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reduce", "max"),
        ("scope", "heads"),
        ("first_moment", "none"),
        ("weight_decay", "coupled"),
        ("momentum", -0.1),
        ("momentum", 1.5),
    ],
)
def test_wrong_options(name, value):
    with pytest.raises(ConfigError, match=name):
        SimultaneousStrategy(**{name: value})


class Convolved(nn.Module):
    """Inputs as maps of one pixel's neighbourhood: convolution weights of several shapes."""

    out_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.flat = nn.Conv2d(5, 4, 3), nn.Conv2d(4, 3, 3), nn.Conv2d(3, 6, 1)

    def forward(self, inputs):
        maps = inputs[:, :, None, None] * torch.linspace(-1, 1, 49, dtype=inputs.dtype).view(7, 7)
        maps = torch.tanh(self.first(maps.contiguous(memory_format=torch.channels_last)))
        return torch.tanh(self.flat(torch.tanh(self.second(maps)))).mean((2, 3))


def convolved() -> MultiTaskObjective:
    torch.manual_seed(2)
    model = MultiTaskModel(Convolved(), {task: nn.Linear(6, 3) for task in TASKS}).double().train()
    return make_objective(model=model)


def fused_adam(parameters):
    return torch.optim.Adam(parameters, lr=LR, fused=True)


@pytest.mark.parametrize("make_optimizer", [adam, fused_adam, rmsprop])
def test_convolutions_as_one_optimizer_a_task_written_out(make_optimizer):
    """The buffers keep convolution weights in another order; nothing else may change by that."""
    mine, plain, batches = convolved(), convolved(), make_batches(count=4)
    strategy = SimultaneousStrategy()
    train(strategy, mine, batches, make_optimizer)
    assert {tuple(order) for order in strategy._orders} == {(0,), (0, 1, 2, 3), (0, 2, 3, 1)}
    shared = plain.shared_parameters()
    ghosts = [torch.zeros_like(p).requires_grad_() for p in shared]
    own = [[torch.zeros_like(p).requires_grad_() for p in plain.task_parameters(task)] for task in TASKS]
    optimizers = [make_optimizer([*ghosts, *head]) for head in own]
    for batch in batches:
        losses = plain.evaluate(batch).losses
        for k, loss in enumerate(losses):
            wanted = [*shared, *plain.task_parameters(k)]
            for ghost, g in zip([*ghosts, *own[k]], torch.autograd.grad(loss, wanted, retain_graph=True), strict=True):
                ghost.grad = torch.empty_like(ghost).copy_(g)
            optimizers[k].step()
        with torch.no_grad():
            heads = [p for task in TASKS for p in plain.task_parameters(task)]
            moved = [g for head in own for g in head]
            for parameter, ghost in zip([*shared, *heads], [*ghosts, *moved], strict=True):
                parameter += ghost
                ghost.zero_()
    assert distance(parameters_of(mine), parameters_of(plain)) < 1e-12


def test_an_optimizer_that_looks_at_shapes_gets_the_parameters_own():
    class RowWise(torch.optim.SGD):
        def step(self, closure=None):
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        scale = p.grad.norm(dim=1, keepdim=True) if p.dim() > 1 else 1.0
                        p -= group["lr"] * p.grad / scale

    strategy = SimultaneousStrategy()
    strategy.setup(convolved(), lambda parameters: RowWise(parameters, lr=LR), torch.Generator())
    assert {tuple(order) for order in strategy._orders} == {(0,), (0, 1, 2, 3)}


def test_states_in_another_order_are_refused():
    strategy, batches = SimultaneousStrategy(), make_batches(count=1)
    train(strategy, convolved(), batches, adam)
    state = strategy.state_dict()
    del state["maths"]["orders"]
    other = SimultaneousStrategy()
    other.setup(convolved(), adam, torch.Generator())
    with pytest.raises(RunDirectoryError, match="another version"):
        other.load_state_dict(state)


def test_a_step_that_raised_leaves_no_update_behind():
    """The optimizers of the tasks before have filled the buffers: the next step must not add to them."""
    bad = []

    def loss(prediction, target):
        found = (prediction - target).square().mean()
        return found + torch.sqrt((prediction * 0).sum()) if bad else found  # the derivative is not finite

    batch = make_batches(count=1)[0]
    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=loss), make_spec("c")])
    strategy = SimultaneousStrategy()
    strategy.setup(objective, sgd, torch.Generator())
    start = parameters_of(objective)
    bad.append(True)
    with pytest.raises(NonFiniteError, match="optimizer states were"):
        strategy.step(batch)
    assert distance(start, parameters_of(objective)) == 0
    buffers = [*strategy._update, *(update for head in strategy._head_updates for update in head)]
    assert all(buffer.grad is None and not buffer.any() for buffer in buffers)
    bad.clear()
    strategy.step(batch)
    fresh = make_objective()
    train(SimultaneousStrategy(), fresh, [batch], sgd)
    assert distance(parameters_of(objective), parameters_of(fresh)) == 0
