"""The last stages for several tasks at once: autograd's gradients on every network, or left to autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtl.errors import NonFiniteError
from mtl.gradients import GhostGramian, TaskJacobian, flatten, gramian, tail_rules, task_rows
from mtl.gradients import tail as tails
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from tests.problems import make_batches, make_objective, parameters_of

TASKS = tuple(f"t{k}" for k in range(23))
"""Two whole groups of those that go together, and a rest."""


class Block(nn.Module):
    """A residual block with a stage of a stride before it; options for whatever a rule has to know."""

    def __init__(self, groups=1, stride=1, dilation=1, kernel=3, bias=False, affine=True, in_place=True) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.stem = nn.Linear(5, 4 * 36)
        self.lift = nn.Conv2d(4, 8, 1)
        self.conv1 = nn.Conv2d(8, 16, kernel, stride, padding, dilation, groups, bias)
        self.norm1 = nn.BatchNorm2d(16, affine=affine)
        self.conv2 = nn.Conv2d(16, 16, kernel, 1, padding, dilation, groups, bias)
        self.norm2 = nn.BatchNorm2d(16, affine=affine)
        self.down = nn.Conv2d(8, 16, 1, stride, bias=bias)
        self.act = nn.ReLU(inplace=in_place)
        self.out_features = 16

    def forward(self, inputs):
        maps = torch.tanh(self.lift(self.stem(inputs).view(-1, 4, 6, 6)))
        return self.top(self.middle(self.act(self.norm1(self.conv1(maps)))), maps).mean((2, 3))

    def middle(self, maps):
        return self.norm2(self.conv2(maps))

    def top(self, maps, read):
        return self.act(maps + self.down(read))


def build(trunk: nn.Module, tasks=TASKS) -> MultiTaskObjective:
    torch.manual_seed(0)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.5)
    heads = {task: nn.Linear(trunk.out_features, 3) for task in tasks}
    return make_objective(tasks, model=MultiTaskModel(trunk, heads).double().train())


def batch_for(objective, size=4):
    inputs = torch.randn(size, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = make_batches(tasks=objective.tasks, count=1)[0]
    like = objective.model.backbone.stem.weight
    targets = {task: target[:size].to(like) for task, target in batch.targets.items()}
    return type(batch)(inputs.to(like), targets)


def expected_rows(objective, batch):
    """By autograd alone, the loss of every task in a pass of its own, float64."""
    losses = objective.evaluate(batch).losses
    shared = objective.shared_parameters()
    return torch.stack(
        [flatten(torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)) for loss in losses]
    )


def find(objective, batch):
    return tails.Tails(objective.shared_parameters()).find(objective.evaluate(batch))


def check(objective, tolerance=1e-11):
    """Rows, Gramians and combinations of all sources against autograd; returns the names of parameters in the tail."""
    batch = batch_for(objective)
    rows = expected_rows(objective, batch)
    weights = torch.randn(len(rows), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for source in (
        TaskJacobian(objective),
        TaskJacobian(objective, ordered=False),
        GhostGramian(objective, lambda *_: True),
        GhostGramian(objective, lambda sizes, _: sizes.d > 8),
    ):
        for _ in range(2):  # the first step of a graph is compared with autograd, the next ones are trusted
            source.reset()
            found = source.measure(source.evaluate(batch), [None] * len(rows))
            torch.testing.assert_close(found, gramian(rows), rtol=tolerance, atol=tolerance)
            if isinstance(source, TaskJacobian) and not source._apart:
                torch.testing.assert_close(source.rows, rows, rtol=tolerance, atol=tolerance)
            source.combine(weights)
            direction = flatten([p.grad for p in objective.shared_parameters()])
            torch.testing.assert_close(direction, rows.T @ weights.to(rows), rtol=tolerance, atol=10 * tolerance)
            assert not source.tails.diagnostics
            objective.model.zero_grad(set_to_none=True)
    for apart in (True, False):
        streamed = task_rows(objective, objective.evaluate(batch, apart=apart), [None] * len(rows), source.tails)
        evaluation = objective.evaluate(batch)
        for k, shared, head in streamed:
            torch.testing.assert_close(flatten(shared), rows[k], rtol=tolerance, atol=tolerance)
            own = torch.autograd.grad(evaluation.losses[k], objective.task_parameters(k), retain_graph=True)
            torch.testing.assert_close(head, own, rtol=tolerance, atol=tolerance)
    tail = find(objective, batch)
    names = {id(parameter): name.removeprefix("backbone.") for name, parameter in objective.model.named_parameters()}
    return set() if tail is None else {names[key] for key in tail.parameters}


WEIGHTS = {"conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight", "norm2.weight", "norm2.bias", "down.weight"}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    groups=st.sampled_from([1, 2, 4]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    bias=st.booleans(),
    affine=st.booleans(),
    in_place=st.booleans(),
    training=st.booleans(),
    channels_last=st.booleans(),
)
def test_autograds_gradients_on_random_networks(
    groups, stride, dilation, kernel, bias, affine, in_place, training, channels_last
):
    objective = build(Block(groups, stride, dilation, kernel, bias, affine, in_place))
    objective.model.backbone.train(training)
    if channels_last:
        objective.model.to(memory_format=torch.channels_last)
    names = check(objective)
    wanted = {name for name in WEIGHTS if affine or "norm" not in name}
    wanted |= {"conv1.bias", "conv2.bias", "down.bias"} if bias else set()
    assert names == wanted


@pytest.fixture
def products(monkeypatch):
    """Counts the convolutions whose inputs were unfolded."""
    seen, inner = [], tail_rules._patches
    monkeypatch.setattr(tail_rules, "_patches", lambda *args: seen.append(1) or inner(*args))
    return seen


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("channels_last", [True, False])
def test_single_precision_with_weights_laid_out(stride, groups, channels_last, products, monkeypatch):
    monkeypatch.setattr("mtl.gradients.layout.LEAST_ENTRIES", 1)
    objective = build(Block(stride=stride, groups=groups))
    objective.model.float()
    if channels_last:
        objective.model.to(memory_format=torch.channels_last)
    assert check(objective, tolerance=3e-4) == WEIGHTS
    assert bool(products) == (stride == 2)  # 36 or 144 positions


def test_many_positions_take_the_other_way_to_weights(monkeypatch, products):
    monkeypatch.setattr(tail_rules, "FEW_POSITIONS", 0)
    assert check(build(Block(stride=2))) == WEIGHTS
    assert not products


def test_rows_of_another_precision():
    objective = build(Block(stride=2))
    trunk = objective.model.backbone
    for part in (
        trunk.lift,
        trunk.conv1,
        trunk.norm1,
        trunk.conv2,
        trunk.norm2,
        trunk.down,
        *objective.model.heads.values(),
    ):
        part.float()
    trunk.stem.register_forward_hook(lambda module, inputs, output: output.float())
    batch = batch_for(objective)
    source = TaskJacobian(objective)
    source.measure(source.evaluate(batch), [None] * len(TASKS))
    losses, shared = objective.evaluate(batch).losses, objective.shared_parameters()
    expected = [p.double().flatten() for p in torch.autograd.grad(losses[3], shared)]
    assert source.rows.dtype == torch.float64
    torch.testing.assert_close(source.rows[3], torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_values_that_batch_normalisation_makes_rounding_of_are_left_to_autograd(monkeypatch):
    objective = build(Block(stride=2))
    assert find(objective, batch_for(objective, size=1)) is not None  # nine values a channel
    monkeypatch.setattr("mtl.gradients.tail_nodes.LEAST_NORMALISED", 10)
    names = find(objective, batch_for(objective, size=1)).parameters
    assert id(objective.model.backbone.norm2.weight) not in names


def test_a_branch_multiplied_by_zero_is_looked_at_again():
    objective = build(Block(stride=2))
    batch = batch_for(objective)
    with torch.no_grad():
        objective.model.backbone.norm2.weight.zero_()
    known = tails.Tails(objective.shared_parameters())
    assert known.find(objective.evaluate(batch)) is None
    assert not known.diagnostics
    with torch.no_grad():
        objective.model.backbone.norm2.weight.fill_(1.0)
    assert known.find(objective.evaluate(batch)) is not None


def test_the_first_task_may_have_no_gradient():
    """The comparison draws a gradient of its own: zeros of a task without labels would agree with anything."""
    objective = build(Hooked())
    evaluation = objective.evaluate(batch_for(objective))
    evaluation.losses[0] = evaluation.losses[0] * 0
    known = tails.Tails(objective.shared_parameters())
    assert known.find(evaluation) is None
    assert known.diagnostics == {"tail_refused": 1.0}


def test_wrong_weights_are_refused(monkeypatch):
    inner = tail_rules.write_weights

    def doubled(node, gradient, rows, patches):
        inner(node, 2 * gradient, rows, patches)

    monkeypatch.setattr(tail_rules, "write_weights", doubled)
    objective = build(Block())
    known = tails.Tails(objective.shared_parameters())
    assert known.find(objective.evaluate(batch_for(objective))) is None
    assert known.diagnostics


def test_a_task_that_does_not_read_the_features():
    objective = build(Block())
    batch = batch_for(objective)
    evaluation = objective.evaluate(batch)
    own = objective.task_parameters(3)[0]
    evaluation.losses[3] = own.square().sum()
    found = list(task_rows(objective, evaluation, [None] * len(TASKS), tails.Tails(objective.shared_parameters())))
    assert not any(gradient.any() for gradient in found[3][1])
    torch.testing.assert_close(found[3][2][0], 2 * own.detach())


def test_large_maps_are_left_to_autograd(monkeypatch):
    monkeypatch.setattr("mtl.gradients.tail_nodes.MOST_POSITIONS", 4 * 36 - 1)
    assert check(build(Block(stride=2))) == WEIGHTS  # 3x3 maps
    assert check(build(Block())) == set()  # 6x6 maps


def test_one_task_and_vectors_have_no_tail():
    assert find(build(Block(), TASKS[:1]), batch_for(build(Block(), TASKS[:1]))) is None
    assert find(make_objective(), make_batches(count=1)[0]) is None


class Tied(Block):
    def middle(self, maps):
        return self.norm2(self.conv2(torch.relu(self.conv2(maps))))


class Broadcast(Block):
    def top(self, maps, read):
        return self.act(self.down(read) + maps.mean((2, 3), keepdim=True))


class Scaled(Block):
    def top(self, maps, read):
        return self.act(torch.add(maps, self.down(read), alpha=2))


class Unknown(Block):
    def middle(self, maps):
        return self.norm2(torch.sigmoid(self.conv2(maps)))


class Aside(Block):
    """The input of conv2 is also read by something without a rule."""

    def middle(self, maps):
        return self.norm2(self.conv2(maps)) + torch.sin(maps)


@pytest.mark.parametrize(
    ("trunk", "names"),
    [
        (Tied, {"norm2.weight", "norm2.bias", "down.weight"}),
        (Broadcast, set()),
        (Scaled, set()),
        (Unknown, {"norm2.weight", "norm2.bias", "down.weight"}),
        (Aside, WEIGHTS - {"conv1.weight", "norm1.weight", "norm1.bias"}),
    ],
)
def test_what_has_no_rule_is_where_the_tail_ends(trunk, names):
    assert check(build(trunk())) == names


def test_frozen_weights_are_where_the_tail_ends():
    trunk = Block()
    trunk.conv2.weight.requires_grad_(False)
    assert check(build(trunk)) == {"norm2.weight", "norm2.bias", "down.weight"}


def test_a_hook_on_a_parameter_is_called():
    objective = build(Block())
    handle = objective.model.backbone.conv2.weight.register_hook(lambda gradient: 3 * gradient)
    assert check(objective) == {"norm2.weight", "norm2.bias", "down.weight"}
    handle.remove()
    assert check(objective) == WEIGHTS


class Hooked(Block):
    def middle(self, maps):
        maps.register_hook(lambda gradient: 3 * gradient)
        return super().middle(maps)


def test_a_hook_on_an_activation_leaves_the_graph_to_autograd():
    objective = build(Hooked())
    batch = batch_for(objective)
    rows = expected_rows(objective, batch)
    for source in (TaskJacobian(objective), GhostGramian(objective)):
        for _ in range(2):
            source.reset()
            found = source.measure(source.evaluate(batch), [None] * len(rows))
            torch.testing.assert_close(found, gramian(rows), rtol=1e-11, atol=1e-11)
        assert source.diagnostics["tail_refused"] == 1


def test_scales_and_heads():
    objective = build(Block())
    batch = batch_for(objective)
    scales = [torch.tensor(0.5 + k, dtype=torch.float64) if k % 2 else None for k in range(len(TASKS))]
    factors = torch.tensor([1.0 if scale is None else scale.item() for scale in scales], dtype=torch.float64)
    source = TaskJacobian(objective)
    source.measure(source.evaluate(batch), scales)
    torch.testing.assert_close(source.rows, expected_rows(objective, batch) * factors[:, None], rtol=1e-11, atol=1e-11)
    evaluation = objective.evaluate(batch)
    for k, (loss, head) in enumerate(zip(evaluation.losses, source.heads, strict=True)):
        own = torch.autograd.grad(loss, objective.task_parameters(k), retain_graph=True)
        torch.testing.assert_close(list(head), [gradient * factors[k] for gradient in own])
    assert source.count.heads == source.count.backbone == len(TASKS)


@pytest.mark.parametrize("source", [TaskJacobian, GhostGramian])
def test_a_gradient_that_is_not_finite_names_its_task(source):
    objective = build(Block())
    batch = batch_for(objective)
    found = source(objective)
    scales = [torch.tensor(float("nan"), dtype=torch.float64) if k == 7 else None for k in range(len(TASKS))]
    for _ in range(2):  # before the graph is known, and when it is
        with pytest.raises(NonFiniteError, match="t7"):
            found.measure(found.evaluate(batch), scales)
        found.reset()
        found.measure(found.evaluate(batch), [None] * len(TASKS))
        found.reset()


def test_parameters_stay_as_they_are():
    objective = build(Block())
    before = parameters_of(objective)
    source = TaskJacobian(objective)
    source.measure(source.evaluate(batch_for(objective)), [None] * len(TASKS))
    after = parameters_of(objective)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in objective.model.parameters())
