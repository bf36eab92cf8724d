"""The gradient engine: rows, Gramians, combinations, cost and memory of the three sources."""

import pytest
import torch
from torch import nn

from mtl.errors import NonFiniteError
from mtl.gradients import FeatureJacobian, LastLayerJacobian, TaskJacobian, gramian, task_rows
from mtl.models.model import MultiTaskModel
from tests.problems import make_batches, make_model, make_objective, make_spec

TASKS = ("a", "b", "c")
SOURCES = [TaskJacobian, FeatureJacobian, LastLayerJacobian]
NONE = [None, None, None]


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def expected_rows(objective, batch, with_respect_to):
    """torch.autograd.functional.jacobian of the losses as functions of the given parameters."""
    names = {id(p): name for name, p in objective.model.named_parameters()}
    keys = [names[id(p)] for p in with_respect_to]

    def losses(*values):
        state = dict(zip(keys, values, strict=True))
        predictions = torch.func.functional_call(objective.model, state, (batch.inputs,))
        return torch.stack([spec.loss(predictions[spec.name], batch.targets[spec.name]) for spec in objective.specs])

    parts = torch.autograd.functional.jacobian(losses, tuple(p.detach() for p in with_respect_to))
    return torch.cat([part.reshape(objective.num_tasks, -1) for part in parts], dim=1)


def feature_rows(objective, evaluation):
    (z,) = evaluation.features
    return torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in evaluation.losses])  # (m, B, d)


def without_features():
    model = make_model(TASKS)
    model.heads["b"].weight = model.heads["a"].weight
    return make_objective(model=model)


@pytest.mark.parametrize("build", [make_objective, without_features])
def test_task_jacobian_is_the_jacobian(build):
    objective, (batch, *_) = build(), make_batches()
    expected = expected_rows(objective, batch, objective.shared_parameters())
    source = TaskJacobian(objective)
    found = source.measure(objective.evaluate(batch), NONE)
    torch.testing.assert_close(source.matrix, expected, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found, expected @ expected.T, rtol=1e-12, atol=1e-13)
    assert found.dtype == torch.float64
    assert found.device.type == "cpu"


def test_scales_multiply_rows_and_heads():
    objective, (batch, *_) = make_objective(), make_batches()
    scales = [torch.tensor(value, dtype=torch.float64) for value in (2.0, 0.5, 10.0)]
    vector = torch.stack(scales)
    for kind in SOURCES:
        source = kind(objective)
        plain = source.measure(objective.evaluate(batch), NONE)
        heads = [flat(head) for head in source.heads]
        source.reset()
        scaled = source.measure(objective.evaluate(batch), scales)
        torch.testing.assert_close(scaled, plain * torch.outer(vector, vector))
        for scale, before, after in zip(scales, heads, source.heads, strict=True):
            torch.testing.assert_close(flat(after), scale * before)


@pytest.mark.parametrize("kind", SOURCES)
def test_heads_receive_their_own_gradient(kind):
    objective, (batch, *_) = make_objective(), make_batches()
    source = kind(objective)
    source.measure(objective.evaluate(batch), NONE)
    for k, loss in enumerate(objective.evaluate(batch).losses):
        expected = torch.autograd.grad(loss, objective.task_parameters(k))
        torch.testing.assert_close(flat(source.heads[k]), flat(expected))


@pytest.mark.parametrize(
    ("build", "kind"),
    [(make_objective, kind) for kind in SOURCES]
    + [(without_features, TaskJacobian), (without_features, LastLayerJacobian)],
)
@pytest.mark.parametrize("skip", [False, True])
def test_combine_is_the_weighted_sum_of_rows(kind, build, skip):
    objective, (batch, *_) = build(), make_batches()
    weights = torch.tensor([0.2, 1.5, -0.3], dtype=torch.float64)
    expected = expected_rows(objective, batch, objective.shared_parameters()).T @ weights
    source = kind(objective)
    evaluation = objective.evaluate(batch)
    if skip:
        source.skip(evaluation, NONE, weights)
    else:
        source.measure(evaluation, NONE)
        source.combine(weights)
    found = flat([p.grad for p in objective.shared_parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert len(source.heads) == 3
    for p in objective.shared_parameters():
        assert p.grad.shape == p.shape


def test_feature_gramian_kept_and_summed():
    """kept: products of whole (B, d) gradients. summed: products after adding over the batch. They differ."""
    objective, (batch, *_) = make_objective(), make_batches()
    rows = feature_rows(objective, objective.evaluate(batch))
    found = {}
    for axis, expected in (("kept", rows.flatten(1)), ("summed", rows.sum(1))):
        found[axis] = FeatureJacobian(objective, axis).measure(objective.evaluate(batch), NONE)
        torch.testing.assert_close(found[axis], expected @ expected.T, rtol=1e-12, atol=1e-15)
    cosines = [g / g.diagonal().sqrt().outer(g.diagonal().sqrt()) for g in found.values()]
    assert (cosines[0] - cosines[1]).abs().max() > 0.01


def test_feature_gramian_by_hand():
    """One linear head y = v z per task, loss mean((v z - t)^2): dL/dz_b = 2 v (v . z_b - t_b) / B."""

    class Cut(nn.Module):
        out_features = 2

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 2, bias=False)

        def forward(self, inputs):
            return self.layer(inputs)

    torch.manual_seed(0)
    heads = {task: nn.Linear(2, 1, bias=False) for task in "ab"}
    model = MultiTaskModel(Cut(), heads).double()
    objective = make_objective(specs=[make_spec("a"), make_spec("b")], model=model)
    batch = make_batches(("a", "b"), count=1, size=3)[0]
    for task in "ab":
        batch.targets[task] = batch.targets[task][:, :1]
    z = model.backbone(batch.inputs).detach()
    rows = []
    for task in "ab":
        v = heads[task].weight.detach()
        rows.append((2 * (z @ v.T - batch.targets[task]) / 3 * v).flatten())
    expected = torch.stack(rows) @ torch.stack(rows).T
    found = FeatureJacobian(objective).measure(objective.evaluate(batch), [None, None])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_last_layer():
    objective, (batch, *_) = make_objective(batch_norm=True), make_batches()
    last = objective.model.backbone.last
    source = LastLayerJacobian(objective)
    assert {id(p) for p in source.last} == {id(last.weight), id(last.bias)}
    found = source.measure(objective.evaluate(batch), NONE)
    expected = expected_rows(objective, batch, source.last)
    torch.testing.assert_close(source.matrix, expected, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found, expected @ expected.T, rtol=1e-12, atol=1e-13)


def test_a_float32_product_that_overflows():
    rows = torch.tensor([[1e25, 0.0], [1e25, 2e25], [3.0, 0.0]])
    found = gramian(rows)
    wide = rows.double()
    torch.testing.assert_close(found, wide @ wide.T, rtol=1e-12, atol=0)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("kind", SOURCES)
def test_gradients_of_1e25_are_not_an_error(kind):
    def huge(prediction, target):
        return 1e25 * ((prediction - target) ** 2).mean()

    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=huge), make_spec("c")], dtype=torch.float32)
    (batch, *_) = make_batches(dtype=torch.float32)
    found = kind(objective).measure(objective.evaluate(batch), NONE)
    assert torch.isfinite(found).all()
    assert found[1, 1] > 1e45


@pytest.mark.parametrize("ordered", [True, False])
def test_weights_beyond_the_precision_of_training_make_infinite_gradients(ordered):
    """Finite in float64: the check before the update finds what becomes of them, not a conversion inside torch."""
    objective = make_objective(dtype=torch.float32)
    source = TaskJacobian(objective, ordered=ordered)
    source.measure(objective.evaluate(make_batches(dtype=torch.float32)[0]), NONE)
    source.combine(torch.tensor([1e39, 1.0, 1e39], dtype=torch.float64))
    assert not all(torch.isfinite(p.grad).all() for p in objective.shared_parameters())


def root_at_zero(prediction, target):
    return torch.sqrt((prediction * 0).sum()) + (prediction - target).square().mean()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("bad", [("b",), ("a", "c")])
def test_a_gradient_that_is_not_finite_names_its_task(kind, bad):
    """sqrt at 0: the loss is finite, its derivative is not. No NaN reaches a solver, no parameter has a `.grad`."""
    specs = [make_spec(task, **({"loss": root_at_zero} if task in bad else {})) for task in TASKS]
    objective, (batch, *_) = make_objective(specs=specs), make_batches()
    evaluation = objective.evaluate(batch)
    assert torch.isfinite(evaluation.values).all()
    with pytest.raises(NonFiniteError, match=f"Non-finite gradient of {' and '.join(bad)}") as caught:
        kind(objective).measure(evaluation, NONE)
    assert caught.value.tasks == bad
    assert all(p.grad is None for p in objective.model.parameters())


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("m", [2, 3, 7])
def test_each_head_is_passed_once(kind, m):
    """m head backwards in all, one a head: a sum of indexed stacked losses would make m^2."""
    tasks = tuple("abcdefg"[:m])
    objective, (batch, *_) = make_objective(tasks), make_batches(tasks)
    passed = dict.fromkeys(tasks, 0)
    trunk = []

    def count(task):
        def hook(module, inputs, output):
            def backward(gradient):
                passed[task] += 1

            output.register_hook(backward)

        return hook

    for task in tasks:
        objective.model.heads[task].register_forward_hook(count(task))
    objective.model.backbone.first.register_forward_hook(
        lambda module, inputs, output: output.register_hook(lambda gradient: trunk.append(1)) and None
    )
    source = kind(objective)
    source.measure(objective.evaluate(batch), [None] * m)
    source.combine(torch.ones(m, dtype=torch.float64))
    assert passed == dict.fromkeys(tasks, 1)
    assert source.count.heads == m
    assert len(trunk) == source.count.backbone == (m if kind is TaskJacobian else 1)
    source.reset()
    assert (source.count.heads, source.count.backbone, source.heads) == (0, 0, [])


def test_buffers_stay_where_they_are():
    objective = make_objective()
    source = TaskJacobian(objective)
    address = source.matrix.data_ptr()
    for batch in make_batches():
        before = source.matrix.clone()
        source.measure(objective.evaluate(batch), NONE)
        source.combine(torch.ones(3, dtype=torch.float64))
        assert source.matrix.data_ptr() == address
        assert not torch.equal(source.matrix, before)
        assert objective.shared_parameters()[0].grad.data_ptr() == address  # a view of the first row, no copy
        source.reset()
    last = LastLayerJacobian(objective)
    address = last.matrix.data_ptr()
    for batch in make_batches(count=2):
        last.measure(objective.evaluate(batch), NONE)
        assert last.matrix.data_ptr() == address
        last.reset()


def test_a_row_that_becomes_zero_is_overwritten():
    """A stale row of the last step would be silent."""
    switch = [1.0]

    def switched(prediction, target):
        return switch[0] * (prediction - target).square().mean() + 1

    objective = make_objective(specs=[make_spec("a"), make_spec("b", loss=switched), make_spec("c")])
    first, second = make_batches(count=2)
    for kind in SOURCES:
        switch[0] = 1.0
        source = kind(objective)
        source.measure(objective.evaluate(first), NONE)
        source.reset()
        switch[0] = 0.0
        assert (source.measure(objective.evaluate(second), NONE)[1] == 0).all()


def test_task_rows_streams_and_frees_the_graph():
    objective, (batch, *_) = make_objective(), make_batches()
    evaluation = objective.evaluate(batch)
    seen = [k for k, _, _ in task_rows(objective, evaluation, NONE)]
    assert seen == [0, 1, 2]
    with pytest.raises(RuntimeError, match="second time"):
        evaluation.losses[0].backward()


@pytest.mark.parametrize("kind", [FeatureJacobian, LastLayerJacobian])
def test_combine_needs_measure(kind):
    with pytest.raises(AssertionError, match="before measure"):
        kind(make_objective()).combine(torch.ones(3, dtype=torch.float64))


def test_feature_level_equals_parameter_level_when_z_is_the_parameter():
    """Property 7 of Sener and Koltun: Z itself shared and trained, so both Gramians are one."""

    class Table(nn.Module):
        out_features = 6

        def __init__(self):
            super().__init__()
            self.z = nn.Parameter(torch.randn(7, 6, generator=torch.Generator().manual_seed(0)))

        def forward(self, inputs):
            return self.z[: len(inputs)]

    model = MultiTaskModel(Table(), {task: nn.Linear(6, 3) for task in TASKS}).double()
    objective, (batch, *_) = make_objective(model=model), make_batches()
    grams = [kind(objective).measure(objective.evaluate(batch), NONE) for kind in (TaskJacobian, FeatureJacobian)]
    torch.testing.assert_close(grams[0], grams[1])
