"""Gradients have their parameter's memory layout when an optimizer steps; a fused step is silently wrong otherwise."""

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mtl.models.model import MultiTaskModel
from tests.problems import STRATEGIES, adam, build_strategy, fast_warmup, make_batches, make_objective, train

TASKS = ("a", "b", "c")


class Maps(nn.Module):
    """Convolutions on channels-last maps: autograd returns their weights' gradients with channels last."""

    out_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 4, 3)
        self.second = nn.Conv2d(4, 6, 3)

    def forward(self, inputs):
        maps = inputs[:, :, None, None].expand(-1, -1, 7, 7).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.second(torch.tanh(self.first(maps)))).mean((2, 3))


def maps_objective():
    torch.manual_seed(3)
    model = MultiTaskModel(Maps(), {task: nn.Linear(6, 3) for task in TASKS}).double().train()
    return make_objective(TASKS, model=model)


def test_autograd_returns_another_layout_here():
    objective = maps_objective()
    (loss, *_) = objective.evaluate(make_batches()[0]).losses
    parameters = objective.shared_parameters()
    found = torch.autograd.grad(loss, parameters)
    assert any(g.stride() != p.stride() for g, p in zip(found, parameters, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_gradients_have_the_layout_of_their_parameters(name):
    seen = []

    def look(optimizer, *_):
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.extend(p.grad.stride() == p.stride() for p in parameters)

    handle = register_optimizer_step_pre_hook(look)
    try:
        train(build_strategy(name, *fast_warmup(name)), maps_objective(), make_batches(count=4), adam)
    finally:
        handle.remove()
    assert seen
    assert all(seen)


@pytest.mark.parametrize(("channels", "stride", "last"), [(3, 1, True), (16, 2, True), (12, 2, False)])
def test_images_have_channels_last_unless_a_layer_corrupts_memory_with_them(channels, stride, last):
    """Strided pointwise convolutions of few channels crash in their backward: tests/unit/models has such networks."""
    seen = []
    backbone = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 6, 1, stride=stride), nn.Flatten()
    )
    backbone[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    MultiTaskModel(backbone, {"a": nn.Linear(6 * (8 // stride) ** 2, 1)})(torch.randn(2, 3, 8, 8))
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == last
