"""Shared or one task's own: proven on the graph."""

import pytest
import torch
from torch import nn

from mtl.errors import ConfigError
from mtl.gradients import FeatureJacobian
from mtl.models.backbones import CrossStitchLeNet, LeNet
from mtl.models.model import MultiTaskModel
from mtl.partition import prove_partition
from tests.problems import Trunk, make_batches, make_model, make_objective

TASKS = ("a", "b", "c")


def names(partition, parameters):
    return {partition.names[id(p)] for p in parameters}


def heads(tasks, width=6):
    return {task: nn.Linear(width, 3) for task in tasks}


def every_parameter_once(model, partition):
    ids = [id(p) for p in partition.shared] + [id(p) for own in partition.task_specific.values() for p in own]
    assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_lenet():
    model = MultiTaskModel(LeNet((1, 28, 28)), heads(("left", "right"), 50))
    partition = prove_partition(model, (1, 28, 28))
    assert names(partition, partition.shared) == {
        f"backbone.{layer}.{kind}" for layer in ("conv1", "conv2", "linear") for kind in ("weight", "bias")
    }
    assert sum(p.numel() for p in partition.shared) == 21_330
    for task in ("left", "right"):
        own = partition.task_specific[task]
        assert names(partition, own) == {f"heads.{task}.weight", f"heads.{task}.bias"}
    assert partition.exposes_features
    assert partition.reason == ""
    assert names(partition, partition.last_shared) == {"backbone.linear.weight", "backbone.linear.bias"}
    every_parameter_once(model, partition)
    assert "21,330" in partition.describe()


def test_cross_stitch():
    """The last units' rows belong to one task each; everything else below is shared; no shared features."""
    tasks = ("left", "right")
    model = MultiTaskModel(CrossStitchLeNet((1, 28, 28), tasks), heads(tasks, 50))
    partition = prove_partition(model, (1, 28, 28))
    for row, task in enumerate(tasks):
        assert names(partition, partition.task_specific[task]) == {
            f"backbone.units.2.{row}",
            f"heads.{task}.weight",
            f"heads.{task}.bias",
        }
    shared = names(partition, partition.shared)
    assert {f"backbone.units.{stage}.{row}" for stage in (0, 1) for row in (0, 1)} <= shared
    assert {f"backbone.linear.{column}.weight" for column in (0, 1)} <= shared
    assert not partition.exposes_features
    assert "per task" in partition.reason
    assert names(partition, partition.last_shared) <= {
        f"backbone.linear.{column}.{kind}" for column in (0, 1) for kind in ("weight", "bias")
    }
    assert partition.last_shared
    every_parameter_once(model, partition)
    assert "no (its backbone returns" in partition.describe()


def test_a_parameter_of_two_tasks_out_of_three():
    model = make_model(TASKS, dtype=torch.float32)
    model.heads["b"].weight = model.heads["a"].weight
    partition = prove_partition(model, (5,))
    assert "heads.a.weight" in names(partition, partition.shared)
    assert names(partition, partition.task_specific["a"]) == {"heads.a.bias"}
    assert names(partition, partition.task_specific["b"]) == {"heads.b.bias"}
    assert names(partition, partition.task_specific["c"]) == {"heads.c.weight", "heads.c.bias"}
    assert not partition.exposes_features
    assert partition.reason
    every_parameter_once(model, partition)


def test_a_backbone_part_that_one_task_alone_reads():
    class Split(nn.Module):
        out_features = 6

        def __init__(self):
            super().__init__()
            self.trunk = Trunk()
            self.extra = nn.Linear(6, 6)

        def forward(self, inputs):
            z = self.trunk(inputs)
            return {"a": z, "b": z, "c": self.extra(z)}

    model = MultiTaskModel(Split(), heads(TASKS))
    partition = prove_partition(model, (5,))
    assert {"backbone.extra.weight", "backbone.extra.bias"} <= names(partition, partition.task_specific["c"])
    assert not any("extra" in name for name in names(partition, partition.shared))
    assert not partition.exposes_features


@pytest.mark.parametrize("count", [1, 9])
def test_unused_parameters_are_an_error(count):
    model = make_model(TASKS, dtype=torch.float32)
    model.backbone.spare = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(count)])
    with pytest.raises(ConfigError, match=r"backbone\.spare\.0") as caught:
        prove_partition(model, (5,))
    assert ("..." in str(caught.value)) == (count > 5)
    for p in model.backbone.spare:
        p.requires_grad_(False)
    prove_partition(model, (5,))


def test_single_task():
    """The backbone counts as shared, the head as the task's own."""
    model = make_model(("a",), dtype=torch.float32)
    partition = prove_partition(model, (5,))
    assert all(name.startswith("backbone.") for name in names(partition, partition.shared))
    assert names(partition, partition.task_specific["a"]) == {"heads.a.weight", "heads.a.bias"}
    assert partition.exposes_features
    assert names(partition, partition.last_shared) == {"backbone.last.weight", "backbone.last.bias"}


def test_frozen_parameters_are_nobodys():
    model = make_model(TASKS, dtype=torch.float32)
    for p in (*model.backbone.first.parameters(), model.heads["a"].bias):
        p.requires_grad_(False)
    partition = prove_partition(model, (5,))
    every_parameter_once(model, partition)
    assert names(partition, partition.task_specific["a"]) == {"heads.a.weight"}
    assert not any("first" in name for name in names(partition, partition.shared))
    assert partition.exposes_features


def test_a_frozen_last_layer_is_not_the_last_shared_one():
    model = make_model(TASKS, dtype=torch.float32)
    for p in model.backbone.last.parameters():
        p.requires_grad_(False)
    partition = prove_partition(model, (5,))
    assert names(partition, partition.last_shared) == {"backbone.first.weight", "backbone.first.bias"}


class Pyramid(nn.Module):
    """Two shared features, as (B, 4) and (B, 6); heads read both."""

    out_features = 10

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4, 6)

    def forward(self, inputs):
        low = torch.tanh(self.first(inputs))
        return low, torch.tanh(self.second(low))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)

    def forward(self, features):
        return self.layer(torch.cat(features, dim=1))


class Fork(nn.Module):
    """Two shared features side by side above a common layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.left = nn.Linear(5, 4)
        self.right = nn.Linear(5, 6)

    def forward(self, inputs):
        stem = torch.tanh(self.stem(inputs))
        return torch.tanh(self.left(stem)), torch.tanh(self.right(stem))


def test_two_shared_features():
    torch.manual_seed(0)
    model = MultiTaskModel(Fork(), {task: Joined() for task in TASKS}).double()
    objective, (batch, *_) = make_objective(model=model), make_batches()
    partition = objective.partition
    assert partition.exposes_features
    assert all(name.startswith("backbone.") for name in names(partition, partition.shared))
    every_parameter_once(model, partition)
    evaluation = objective.evaluate(batch)
    assert [tuple(z.shape) for z in evaluation.features] == [(7, 4), (7, 6)]


def feature_step(backbone):
    """(weighted sum written by the feature source, the true weighted gradient)."""
    torch.manual_seed(0)
    model = MultiTaskModel(backbone, {task: Joined() for task in TASKS}).double()
    objective, (batch, *_) = make_objective(model=model), make_batches()
    source = FeatureJacobian(objective)
    source.measure(objective.evaluate(batch), [None] * 3)
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    source.combine(weights)
    losses = objective.evaluate(batch).losses
    expected = torch.autograd.grad(
        sum(w * loss for w, loss in zip(weights, losses, strict=True)), objective.shared_parameters()
    )
    return [p.grad for p in objective.shared_parameters()], expected


def test_two_features_side_by_side_at_the_feature_level():
    for mine, true in zip(*feature_step(Fork()), strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-13)


def test_two_features_where_one_feeds_the_other_are_not_exposed():
    """The gradient of the lower one already holds the other's: a feature-level step would count that path twice."""
    model = MultiTaskModel(Pyramid(), {task: Joined() for task in TASKS}).double()
    objective, (batch, *_) = make_objective(model=model), make_batches()
    assert not objective.exposes_features
    assert "computed from another" in objective.partition.reason
    assert objective.evaluate(batch).features == ()
    every_parameter_once(model, objective.partition)


def test_the_proof_changes_nothing():
    model = make_model(TASKS, batch_norm=True, dtype=torch.float32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for training in (True, False):
        model.train(training)
        prove_partition(model, (5,))
        assert model.training is training
        assert model.backbone.norm.training is training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
