"""Maximum roaming (Pascal et al. 2021, AAAI): its invariants, its limits, and the masked passes written out."""

import math

import pytest
import torch
from torch import nn

from mtl.datasets.base import Batch
from mtl.errors import ConfigError, RequirementError
from mtl.grouping.roaming import draw_partition, roam
from mtl.models.backbones import CrossStitchLeNet
from mtl.models.masking import find_layers
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.strategies import RoamingStrategy
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
    squared,
    train,
)
from tests.toys import run_with_resume, same_state

UPDATES = ("accumulated", "sequential")


def roaming(**options):
    return RoamingStrategy(**{"updates_end": 4, **options})


@pytest.mark.parametrize(("m", "units", "sigma"), [(3, 8, 0.5), (3, 8, 0.1), (5, 3, 0.4), (1, 7, 0.2), (2, 10, 0.8)])
def test_partitions_and_roaming(m, units, sigma):
    """Every unit has a task; counts stay; what is new was never used; in the end every task used every unit."""
    generator = torch.Generator().manual_seed(0)
    masks = draw_partition(m, units, sigma, generator)
    assert masks.any(0).all()
    counts = masks.sum(1)
    for k in range(m):
        assert counts[k] == max(math.ceil(sigma * units), len(range(k, units, m)))
    visited = masks.clone()
    steps = 0
    while not visited.all():
        before, seen = masks, visited.clone()
        masks = roam(before, visited, 1, generator)
        steps += 1
        assert torch.equal(masks.sum(1), counts)
        new, old = masks & ~before, before & ~masks
        assert not (new & seen).any()
        assert torch.equal(visited, seen | new)
        assert torch.equal(new.sum(1), (~seen).any(1).long())
        assert torch.equal(old.sum(1), new.sum(1))
    assert steps == units - counts.min()
    assert torch.equal(roam(masks, visited, 1, generator), masks)


def test_partitions_depend_on_the_draw():
    drawn = {tuple(draw_partition(3, 8, 0.6, torch.Generator().manual_seed(s)).flatten().tolist()) for s in range(9)}
    assert len(drawn) > 5


@pytest.mark.parametrize("make_optimizer", [sgd, adam])
def test_all_shared_is_uniform(make_optimizer):
    batches = make_batches()
    mine, plain = make_objective(), make_objective()
    train(roaming(sigma=1.0), mine, batches, make_optimizer)
    assert distance(parameters_of(mine), plain_steps(plain, batches, make_optimizer)) < 1e-12


def test_all_shared_in_sequence_is_igd():
    batches = make_batches()
    mine, igd = make_objective(), make_objective()
    reports = train(roaming(sigma=1.0, update="sequential"), mine, batches, adam)
    expected = train(build_strategy("igd"), igd, batches, adam)
    assert distance(parameters_of(mine), parameters_of(igd)) < 1e-12
    for report, other in zip(reports, expected, strict=True):
        torch.testing.assert_close(report.losses, other.losses, rtol=1e-12, atol=0)


def slow_losses(objective, batch):
    """Two masked layers, by hand."""
    trunk, view = objective.model.backbone, objective.model.view
    losses = []
    for k, task in enumerate(objective.tasks):
        first, last = (mask[k].double() for mask in view.masks)
        hidden = torch.tanh(trunk.first(batch.inputs) * first)
        z = torch.tanh(trunk.last(hidden) * last)
        losses.append(squared(objective.model.heads[task](z), batch.targets[task]))
    return losses


@pytest.mark.parametrize("update", UPDATES)
def test_masked_passes_written_out(update):
    mine, twin = make_objective(), make_objective()
    strategy, shadow = roaming(sigma=0.5, update=update), roaming(sigma=0.5)
    strategy.setup(mine, sgd, torch.Generator().manual_seed(5))
    shadow.setup(twin, sgd, torch.Generator())
    changed = 0
    for batch in make_batches():
        for mask, other in zip(twin.model.view.masks, mine.model.view.masks, strict=True):
            changed += not torch.equal(mask, other)
            mask.copy_(other)
        before = [loss.item() for loss in slow_losses(twin, batch)]
        report = strategy.step(batch)
        assert report.losses.tolist() == pytest.approx(before, rel=1e-12)
        groups = [range(3)] if update == "accumulated" else [[0], [1], [2]]
        for group in groups:
            losses = slow_losses(twin, batch)
            twin.model.zero_grad()
            sum(losses[k] for k in group).backward()
            with torch.no_grad():
                for p in twin.model.parameters():
                    p -= 0.05 * p.grad if p.grad is not None else 0
        assert distance(parameters_of(mine), parameters_of(twin)) < 1e-12
        assert report.cost.forwards == (3 if update == "accumulated" else 5)
    assert changed > 2, "the masks never roamed: the test shows nothing"


def test_units_of_other_tasks_do_not_move():
    """The rows of a layer that a task does not use get no gradient from it."""
    objective = make_objective(("a", "b"))
    strategy = roaming(sigma=0.25)
    strategy.setup(objective, sgd, torch.Generator().manual_seed(0))
    batch = make_batches(("a", "b"), count=1)[0]
    (loss,) = objective.evaluate(batch, (0,)).losses
    weight = torch.autograd.grad(loss, objective.model.backbone.first.weight)[0]
    used = objective.model.view.masks[0][0]
    assert (weight[~used] == 0).all()
    assert (weight[used] != 0).any(1).all()


def test_roaming_ends_when_it_should():
    """8 units, ceil(0.5 * 8) = 4 in use: 4 exchanges; 6 units: 3; all by step 12, and then no more."""
    objective = make_objective()
    reports = train(roaming(sigma=0.5, updates_end=12), objective, make_batches(count=16), sgd)
    totals = [report.diagnostics["roaming_exchanges_total"] for report in reports]
    assert totals == [3 * (min(n // 3, 4) + min(n // 4, 3)) for n in range(1, 17)]
    assert [report.diagnostics["roaming_ended"] for report in reports] == [0.0] * 11 + [1.0] * 5
    assert reports[-1].diagnostics["roaming_visited"] == 1.0
    assert [int(mask.sum(1)[0]) for mask in objective.model.view.masks] == [4, 3]


def test_update_interval_and_ratio():
    objective = make_objective()
    strategy = RoamingStrategy(sigma=0.5, update_interval=2, updates_end=None, update_ratio=0.5)
    reports = train(strategy, objective, make_batches(count=10), sgd)
    totals = [report.diagnostics["roaming_exchanges_total"] for report in reports]
    assert totals == [3 * (min(n // 2, 2) + min(n // 2, 2)) for n in range(1, 11)]  # 2 of 4, and 2 of 3: half at least


def test_a_mask_stands_behind_a_normalisation():
    """A masked unit is 0 and not the normalisation's bias; each task has statistics of its own, used when evaluated."""
    objective = make_objective(batch_norm=True)
    batches = make_batches(count=3)
    train(roaming(sigma=0.5), objective, batches, sgd)
    model, batch = objective.model, batches[0]
    layers = find_layers(model.backbone, batch.inputs, linear=True)
    assert [(layer.name, layer.output, layer.units) for layer in layers] == [("first", "norm", 8), ("last", "last", 6)]
    model.eval()
    found = model.features(batch.inputs)
    trunk = model.backbone
    for k, task in enumerate(objective.tasks):
        own = model.view.statistics(task)
        assert own["norm.num_batches_tracked"] == 3
        mean, variance = own["norm.running_mean"], own["norm.running_var"]
        hidden = nn.functional.batch_norm(trunk.first(batch.inputs), mean, variance, trunk.norm.weight, trunk.norm.bias)
        first, last = (mask[k].double() for mask in model.view.masks)
        expected = torch.tanh(trunk.last(torch.tanh(hidden * first)) * last)
        torch.testing.assert_close(found[task], expected)


class Convolutions(nn.Module):
    """Normalisations declared out of order, a branch, a transposed convolution, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.norm2 = nn.BatchNorm2d(6)
        self.norm1 = nn.GroupNorm(2, 4)
        self.conv1 = nn.Conv1d(1, 4, 3)
        self.conv2 = nn.Conv2d(1, 6, 1)
        self.up = nn.ConvTranspose1d(4, 2, 1)
        self.frozen = nn.Conv1d(2, 2, 1).requires_grad_(False)
        self.linear = nn.Linear(5, 7)
        self.out_features = 6

    def forward(self, inputs):
        hidden = self.frozen(self.up(torch.relu(self.norm1(self.conv1(inputs[:, None])))))
        image = inputs.view(-1, 1, 5, 1)
        return hidden.mean((1, 2))[:, None] + self.norm2(self.conv2(image)).mean((2, 3)) + self.linear(inputs).sum()


@pytest.mark.parametrize("linear", [True, False])
def test_layers_are_found_by_following_tensors(linear):
    found = find_layers(Convolutions(), torch.zeros(2, 5), linear)
    outputs = {layer.name: (layer.output, layer.units, layer.axis) for layer in found}
    expected = {"conv1": ("norm1", 4, 1), "conv2": ("norm2", 6, 1), "up": ("up", 2, 1), "linear": ("linear", 7, -1)}
    if not linear:
        del expected["linear"]
    assert outputs == expected


def test_convolutions_only():
    heads = {task: nn.Linear(6, 3) for task in "abc"}
    objective = make_objective(model=MultiTaskModel(Convolutions(), heads).double().train())
    train(roaming(sigma=0.5, layers="conv"), objective, make_batches(count=2), sgd)
    assert sorted(mask.shape[1] for mask in objective.model.view.masks) == [2, 4, 6]
    with pytest.raises(RequirementError, match="layers"):
        roaming(layers="conv").setup(make_objective(), sgd, torch.Generator())


def test_a_backbone_with_features_per_task():
    tasks = ("a", "b")
    torch.manual_seed(0)
    trunk = CrossStitchLeNet((1, 16, 16), tasks, out_features=6)
    model = MultiTaskModel(trunk, {task: nn.Linear(6, 3) for task in tasks}).train()
    objective = MultiTaskObjective(model, [make_spec(task) for task in tasks], (1, 16, 16))
    batch = make_batches(tasks, count=1, dtype=torch.float32)[0]
    images = torch.randn(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    (report,) = train(roaming(sigma=0.5), objective, [Batch(images, batch.targets)], sgd)
    assert report.cost.forwards == 2
    assert set(objective.model.features(images)) == set(tasks)


def test_a_loaded_network_is_the_function_that_was_saved():
    batches = make_batches()
    objective, inputs = make_objective(batch_norm=True), batches[0].inputs
    train(roaming(sigma=0.5), objective, batches, sgd)
    other = make_objective(batch_norm=True)
    roaming(sigma=0.5).setup(other, sgd, torch.Generator().manual_seed(77))
    other.model.load_state_dict(objective.model.state_dict())
    mine, loaded = objective.model.eval()(inputs), other.model.eval()(inputs)
    assert all(torch.equal(mine[task], loaded[task]) for task in mine)


@pytest.mark.parametrize("update", UPDATES)
def test_saved_and_continued(update):
    (first, a), (second, b) = run_with_resume(
        lambda: roaming(sigma=0.4, update=update, updates_end=6),
        lambda: make_objective(batch_norm=True),
        make_batches(),
        adam,
        cut=3,
    )
    assert distance(first, second) == 0
    assert same_state(a.state_dict(), b.state_dict())
    assert same_state(dict(a.objective.model.state_dict()), dict(b.objective.model.state_dict()))


def test_measuring_leaves_the_statistics():
    """`update_buffers=False` holds for the view's statistics too."""
    objective = make_objective(batch_norm=True)
    roaming().setup(objective, sgd, torch.Generator())
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    objective.measure(make_batches(count=1)[0])
    assert same_state(before, dict(objective.model.state_dict()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sigma", {"sigma": 0.0}),
        ("sigma", {"sigma": 1.5}),
        ("update_ratio", {"update_ratio": 0.0}),
        ("update_interval", {"update_interval": 5}),
        ("updates_end", {"updates_end": None}),
        ("update_interval", {"updates_end": None, "update_interval": 0}),
        ("updates_size", {"updates_size": 0}),
        ("layers", {"layers": "linear"}),
        ("update", {"update": "per_task"}),
        ("max_grad_norm", {"max_grad_norm": -1}),
    ],
)
def test_wrong_options(name, options):
    with pytest.raises(ConfigError, match=name):
        RoamingStrategy(**options)
