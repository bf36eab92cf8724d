"""Weight gradients of narrow convolutions by two tasks at once: the same as one by one."""

import pytest
import torch
from torch import nn

from mtl.datasets.base import Batch
from mtl.gradients import TaskJacobian, flatten, gramian
from mtl.gradients.pairs import find_pairs, is_narrow
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.tasks import Accuracy, TaskSpec


@pytest.fixture(autouse=True)
def _little_work(monkeypatch):
    monkeypatch.setattr("mtl.gradients.pairs.LEAST", 0)


class Trunk(nn.Module):
    """Two narrow convolutions and a linear layer, on (B, 3, 8, 8)."""

    out_features = 6

    def __init__(self, bias=True, stride=1, dilation=1, groups=1, twice=False, width=8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 20, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(20, width, 3, stride, 2, dilation, groups, bias)
        self.last = nn.Linear(width, 6)
        self.twice = twice

    def forward(self, inputs):
        maps = torch.tanh(self.first(inputs))
        maps = torch.tanh(self.second(maps))
        if self.twice:
            maps = torch.tanh(self.second(torch.cat([maps, maps, maps], 1)[:, :20]))
        return torch.tanh(self.last(maps.mean((2, 3))))


def squared(prediction, target):
    return ((prediction - target) ** 2).mean()


def build(trunk, m=3) -> MultiTaskObjective:
    torch.manual_seed(0)
    tasks = tuple(f"t{k}" for k in range(m))
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.3)
    model = MultiTaskModel(trunk, {task: nn.Linear(6, 3) for task in tasks}).train()
    specs = [TaskSpec(task, 3, "regression", squared, {"accuracy": Accuracy}) for task in tasks]
    return MultiTaskObjective(model, specs, (3, 8, 8))


def batch_for(objective):
    generator = torch.Generator().manual_seed(1)
    targets = {task: torch.randn(5, 3, generator=generator) for task in objective.tasks}
    return Batch(torch.randn(5, 3, 8, 8, generator=generator), targets)


def paired(objective) -> set[str]:
    shared = {id(p): torch.zeros(objective.num_tasks, *p.shape) for p in objective.shared_parameters()}
    narrow = {id(p) for p in objective.shared_parameters() if is_narrow(p)}
    found = find_pairs(objective.evaluate(batch_for(objective)), shared, narrow)
    names = {id(parameter): name.removeprefix("backbone.") for name, parameter in objective.model.named_parameters()}
    return {names[id(parameter)] for pair in found for parameter in pair.parameters}


def check(objective, tolerance=2e-5) -> set[str]:
    """Rows against autograd alone, in float64; returns what was paired."""
    batch = batch_for(objective)
    source = TaskJacobian(objective)
    found = source.measure(source.evaluate(batch), [None] * objective.num_tasks)
    rows = source.rows.clone()
    losses = objective.evaluate(batch).losses
    shared = objective.shared_parameters()
    expected = torch.stack([flatten(torch.autograd.grad(loss, shared, retain_graph=True)) for loss in losses])
    torch.testing.assert_close(rows, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())
    torch.testing.assert_close(found, gramian(rows))
    return paired(objective)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_rows_for_odd_and_even_numbers_of_tasks(m, bias):
    names = {"first.weight", "second.weight"} | ({"first.bias", "second.bias"} if bias else set())
    assert check(build(Trunk(bias), m)) == names


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"width": 24}])
def test_strides_dilation_and_other_widths(options):
    assert "second.weight" in check(build(Trunk(**options)))


@pytest.mark.parametrize("options", [{"groups": 4}, {"twice": True}, {"width": 16}, {"width": 12}])
def test_what_is_left_to_autograd(options):
    assert check(build(Trunk(**options))) == {"first.weight", "first.bias"}


def test_narrow_by_blocks_of_16():
    assert [c for c in range(1, 129) if is_narrow(torch.empty(c, 3, 3, 3))] == [4, 8, 20, 24]
    assert not is_narrow(torch.empty(8, 3, 3, 3, dtype=torch.float64))
    assert not is_narrow(torch.empty(8, 3, 3))


def test_hooks_and_frozen_weights_are_left_to_autograd():
    objective = build(Trunk())
    handle = objective.model.backbone.second.weight.register_hook(lambda gradient: 2 * gradient)
    assert check(objective) == {"first.weight", "first.bias"}
    handle.remove()
    trunk = Trunk()
    trunk.second.weight.requires_grad_(False)
    assert check(build(trunk)) == {"first.weight", "first.bias"}


def test_a_task_that_does_not_reach_a_convolution_has_zeros():
    objective = build(Trunk(), 3)
    batch = batch_for(objective)
    evaluation = objective.evaluate(batch)
    rows = {id(p): torch.ones(3, *p.shape) for p in objective.shared_parameters()}
    for pair in find_pairs(evaluation, rows, {id(objective.model.backbone.second.weight)}):
        (first,) = torch.autograd.grad(evaluation.losses[0], [pair.place], retain_graph=True)
        for k, gradient in enumerate((first, None, 2 * first)):
            pair.put(k, gradient)
    weight = rows[id(objective.model.backbone.second.weight)]
    assert not weight[1].any()
    torch.testing.assert_close(weight[2], 2 * weight[0], rtol=1e-4, atol=1e-6)


def test_little_work_is_left_to_autograd(monkeypatch):
    objective = build(Trunk())
    positions, weights = 5 * 8 * 8, 20 * 3 * 9
    monkeypatch.setattr("mtl.gradients.pairs.LEAST", positions * weights + 1)
    assert paired(objective) == {"second.weight", "second.bias"}
    monkeypatch.setattr("mtl.gradients.pairs.LEAST", 1 << 40)
    assert check(objective) == set()
