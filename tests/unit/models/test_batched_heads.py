"""Many linear heads in one product: the same losses, gradients and costs as one by one."""

import weakref
from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.models import model as models
from mtl.models.heads import LinearHead
from mtl.models.heads.linear import linear_products
from mtl.models.model import MultiTaskModel
from mtl.partition import prove_partition
from tests.problems import (
    Trunk,
    build_strategy,
    distance,
    make_batches,
    make_objective,
    make_spec,
    parameters_of,
    train,
)

TASKS = tuple(f"attribute{k}" for k in range(9))


def make_many(outputs=3) -> MultiTaskModel:
    torch.manual_seed(1)
    return MultiTaskModel(Trunk(batch_norm=False), {task: LinearHead(6, outputs) for task in TASKS}).double().train()


@pytest.fixture
def one_by_one(monkeypatch):
    def switch(separate):
        monkeypatch.setattr(models, "JOINT_FROM", 10**6 if separate else 8)

    return switch


def heads_and_features():
    torch.manual_seed(2)
    heads = [LinearHead(6, 1 + k % 3).double() for k in range(9)]
    return heads, torch.randn(7, 6, dtype=torch.float64, requires_grad=True)


def test_products_and_all_their_derivatives():
    heads, features = heads_and_features()
    joint, single = linear_products([features], heads), [head(features) for head in heads]
    parameters = [p for head in heads for p in head.parameters()]
    for one, other in zip(joint, single, strict=True):
        torch.testing.assert_close(one, other)
    for reached in (range(9), (4,), (0, 3, 8)):
        of_joint, of_single = (
            torch.autograd.grad(
                sum(predictions[k].square().sum() * (k + 1) for k in reached),
                [features, *parameters],
                retain_graph=True,
                allow_unused=True,
            )
            for predictions in (joint, single)
        )
        for one, other in zip(of_joint, of_single, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


def with_views(features, heads):
    """Predictions, and the view of the features that each head reads."""
    views = [features.view_as(features) for _ in heads]
    return linear_products(views, heads), views


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("reached", [tuple(range(9)), (4,), (0, 3, 8)])
def test_what_each_head_sends_to_its_own_view(reached, equal):
    heads, features = heads_and_features()
    if equal:
        heads = [LinearHead(6, 2).double() for _ in heads]
    (predictions, views), parameters = with_views(features, heads), [p for head in heads for p in head.parameters()]
    losses = [predictions[k].square().sum() * (k + 1) for k in reached]
    found = torch.autograd.grad(losses, [*views, *parameters], allow_unused=True)
    for k, (view, head) in enumerate(zip(views, heads, strict=True)):
        own = (found[k], *found[len(views) + 2 * k : len(views) + 2 * k + 2])
        if k not in reached:
            assert own == (None, None, None)
            continue
        alone = view.detach().requires_grad_()
        expected = torch.autograd.grad(head(alone).square().sum() * (k + 1), [alone, head.weight, head.bias])
        for one, other in zip(own, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_products_pass_numerical_checks():
    heads, features = heads_and_features()
    heads, features = heads[:3], features[:2].detach().requires_grad_()
    parameters = [head.weight for head in heads] + [head.bias for head in heads]

    def run(features, *_):
        return linear_products([features], heads)

    assert torch.autograd.gradcheck(run, (features, *parameters))
    assert torch.autograd.gradgradcheck(run, (features, *parameters))


def test_second_derivatives_add_up_over_the_views():
    heads, features = heads_and_features()
    weights = [head.weight for head in heads]
    totals = []
    for joint in (True, False):
        predictions, views = with_views(features, heads)
        if not joint:
            predictions = [head(view) for head, view in zip(heads, views, strict=True)]
        first = torch.autograd.grad([p.pow(3).sum() for p in predictions], weights, create_graph=True)
        totals.append(sum(torch.autograd.grad(sum(g.square().sum() for g in first), views)))
    assert totals[0].norm() > 1
    torch.testing.assert_close(*totals)


class Products(TorchDispatchMode):
    """Counts matrix products and their multiplications."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "bmm"):
            left, right = args[-2:]
            self.counts["calls"] += 1
            self.counts["multiplications"] += left.numel() * right.shape[-1]
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self.counts = Counter()
        return super().__enter__()


def test_all_tasks_are_three_products_and_one_task_is_its_own_head():
    heads, features = heads_and_features()
    with Products() as forward:
        predictions = linear_products([features], heads)
    assert forward.counts["calls"] == 1
    with Products() as one:
        predictions[5].sum().backward(retain_graph=True)
    separate = heads[5](features)
    with Products() as expected:
        separate.sum().backward()
    assert one.counts == expected.counts
    assert heads[4].weight.grad is None
    with Products() as everything:
        sum(prediction.sum() for prediction in predictions).backward()
    assert everything.counts["calls"] == 2
    assert everything.counts["multiplications"] == 2 * forward.counts["multiplications"]


def run(name, separate, one_by_one):
    """Parameters, losses, reported costs and hook counts of three steps."""
    one_by_one(separate)
    model = make_many()
    counts = Counter()
    for head in model.heads.values():

        def hook(module, inputs, output):
            counts["head_forwards"] += 1
            if output.requires_grad:
                output.register_hook(lambda gradient: counts.update(head_backwards=1))

        head.register_forward_hook(hook)
    with Products() as products:
        objective = make_objective(specs=[make_spec(task) for task in TASKS], model=model)
        objective.evaluate = partial(objective.evaluate, one_backward=True)  # where it does not pay, it must be right
        reports = train(build_strategy(name), objective, make_batches(TASKS, count=3))
    return (
        parameters_of(objective),
        torch.stack([r.losses for r in reports]),
        [r.cost for r in reports],
        counts,
        products,
    )


@pytest.mark.parametrize("name", ["uniform", "mgda", "mgda_ub", "igd_per_task", "mao", "famo", "gradnorm"])
def test_strategies_see_no_difference(name, one_by_one):
    joint, single = (run(name, separate, one_by_one) for separate in (False, True))
    assert distance(joint[0], single[0]) < 1e-10
    torch.testing.assert_close(joint[1], single[1], rtol=1e-10, atol=1e-12)
    assert joint[2] == single[2]
    assert joint[3] == single[3]
    assert joint[3]["head_backwards"] == sum(cost.backwards for cost in joint[2])
    if name in ("uniform", "famo"):  # others evaluate one task at a time, or let heads read views of their own
        assert joint[4].counts["calls"] < single[4].counts["calls"]
    assert joint[4].counts["multiplications"] == single[4].counts["multiplications"]


def joint(predictions) -> bool:
    below = [prediction.grad_fn.next_functions[0][0] for prediction in predictions.values()]
    nodes = {id(node) for node in below if type(node).__name__ == "_ProductsBackward"}
    assert len(nodes) <= 1
    return bool(nodes)


def test_one_product_where_the_losses_are_differentiated_together():
    objective = make_objective(specs=[make_spec(task) for task in TASKS], model=make_many())
    batch = make_batches(TASKS, count=1)[0]
    for options, calls in (({}, 9), ({"one_backward": True}, 1)):
        with Products() as products:
            objective.evaluate(batch, **options)
        assert products.counts["calls"] == 2 + calls  # the trunk has two layers
    with Products() as products:
        objective.measure(batch)
    assert products.counts["calls"] == 3


def test_views_of_the_features_are_read_also_where_one_backward_is_asked_for():
    objective = make_objective(specs=[make_spec(task) for task in TASKS], model=make_many())
    batch = make_batches(TASKS, count=1)[0]
    found, counts = [], []
    for one_backward in (False, True):
        evaluation = objective.evaluate(batch, one_backward=one_backward, apart=True)
        views = [view for (view,) in evaluation.reads]
        with Products() as products:
            found.append(torch.autograd.grad(evaluation.losses, views, [torch.ones(()).double()] * 9))
        counts.append(products.counts["calls"])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert all(gradient.norm() > 0 for gradient in found[0])
    assert counts == [9, 2]  # one for the views, one for the weights, which the node makes in any case


def test_few_or_other_heads_run_one_by_one():
    model = make_many()
    features = model.features(torch.randn(4, 5, dtype=torch.float64))
    assert joint(model.predict_all(features, TASKS))
    assert joint(model.predict_all(features, TASKS[:8]))
    assert not joint(model.predict_all(features, TASKS[:7]))
    assert not joint(model.predict_all({task: features.clone() for task in TASKS}, TASKS))
    model.heads[TASKS[0]] = nn.Sequential(nn.Linear(6, 3)).double()
    assert not joint(model.predict_all(features, TASKS))


def test_a_graph_goes_with_its_predictions():
    """Features are kept by the node, so that tasks can be differentiated apart: they must not outlive it."""
    heads, leaf = heads_and_features()
    features = leaf.tanh()
    alive = weakref.ref(features)
    predictions = linear_products([features], heads)
    del features
    torch.autograd.grad(predictions[0].sum(), heads[0].weight)
    torch.autograd.grad(predictions[1].sum(), heads[1].weight)  # the first pass freed nothing of the others
    assert alive() is not None
    del predictions
    assert alive() is None


def test_a_change_in_place_before_the_backward_is_noticed():
    heads, features = heads_and_features()
    predictions = linear_products([features], heads)
    with torch.no_grad():
        heads[3].weight.add_(1)
    with pytest.raises(AssertionError, match="changed in place"):
        predictions[3].sum().backward()


def test_forty_heads_stay_forty_tasks_for_the_partition():
    model = make_many().float()
    partition = prove_partition(model, (5,))
    assert {id(p) for p in partition.shared} == {id(p) for p in model.backbone.parameters()}
    for task in TASKS:
        assert {id(p) for p in partition.task_specific[task]} == {id(p) for p in model.heads[task].parameters()}
    assert partition.exposes_features
