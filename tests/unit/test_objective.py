"""The objective: which losses, which values, which buffers."""

import pytest
import torch

from mtl.errors import NonFiniteError, RequirementError
from mtl.objective import require_features
from tests.problems import make_batches, make_model, make_objective, make_spec, squared

TASKS = ("a", "b", "c")


def by_hand(objective, batch):
    predictions = objective.model(batch.inputs)
    return torch.stack([squared(predictions[task], batch.targets[task]).detach() for task in objective.tasks])


def test_all_tasks():
    objective, (batch, *_) = make_objective(), make_batches()
    evaluation = objective.evaluate(batch)
    assert evaluation.tasks == (0, 1, 2)
    assert all(loss.requires_grad and loss.ndim == 0 for loss in evaluation.losses)
    torch.testing.assert_close(evaluation.values, by_hand(objective, batch))
    assert not evaluation.values.requires_grad
    assert evaluation.num_samples == 7
    (z,) = evaluation.features
    assert z.shape == (7, 6)
    assert z.requires_grad


@pytest.mark.parametrize("tasks", [(0,), (2,), (1, 2), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("measure", [(), (1,), (0, 1, 2)])
def test_subsets(tasks, measure):
    """Losses in the order asked for; values in task order, NaN where neither evaluated nor measured."""
    objective, (batch, *_) = make_objective(), make_batches()
    evaluation = objective.evaluate(batch, tasks, measure=measure)
    expected = by_hand(objective, batch)
    assert evaluation.tasks == tasks
    assert [loss.item() for loss in evaluation.losses] == pytest.approx(expected[list(tasks)].tolist())
    known = set(tasks) | set(measure)
    for k in range(3):
        if k in known:
            assert evaluation.values[k].item() == pytest.approx(expected[k].item())
        else:
            assert torch.isnan(evaluation.values[k])


def test_only_the_heads_asked_for_run():
    objective, (batch, *_) = make_objective(), make_batches()
    ran = []
    for task in TASKS:
        objective.model.heads[task].register_forward_hook(lambda *_, task=task: ran.append(task))
    objective.evaluate(batch, (2,), measure=(0, 2))
    assert ran == ["c", "a"]


def test_measure():
    objective, (batch, *_) = make_objective(batch_norm=True), make_batches()
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    values = objective.measure(batch)
    torch.testing.assert_close(values, by_hand(make_objective(batch_norm=True), batch))
    assert not values.requires_grad
    assert all(torch.equal(before[key], value) for key, value in objective.model.state_dict().items())


@pytest.mark.parametrize("update", [True, False])
def test_buffers_move_only_when_asked(update):
    objective, (batch, *_) = make_objective(batch_norm=True), make_batches()
    norm = objective.model.backbone.norm
    identity = id(norm.running_mean)
    before = norm.running_mean.clone()
    objective.evaluate(batch, update_buffers=update)
    assert torch.equal(norm.running_mean, before) != update
    assert norm.num_batches_tracked == int(update)
    assert id(norm.running_mean) == identity


def test_an_earlier_graph_stays_valid():
    """Restoring values in place would break the first graph: its backward would raise or be wrong."""
    objective, (first, second, *_) = make_objective(batch_norm=True), make_batches()
    parameters = objective.shared_parameters()
    reference = torch.autograd.grad(sum(make_objective_losses(first)), make_objective_losses.parameters)
    evaluation = objective.evaluate(first)
    objective.measure(second)
    objective.evaluate(second, (1,), update_buffers=False)
    found = torch.autograd.grad(sum(evaluation.losses), parameters)
    for mine, true in zip(found, reference, strict=True):
        assert torch.equal(mine, true)


def make_objective_losses(batch):
    objective = make_objective(batch_norm=True)
    make_objective_losses.parameters = objective.shared_parameters()
    return objective.evaluate(batch).losses


def test_an_earlier_graph_in_evaluation_mode_stays_valid():
    """In evaluation mode the graph holds the running statistics themselves."""
    objective, (first, second, *_) = make_objective(batch_norm=True), make_batches()
    objective.model.eval()
    evaluation = objective.evaluate(first)
    objective.model.train()
    objective.measure(second)
    torch.autograd.grad(sum(evaluation.losses), objective.shared_parameters())


def test_buffers_come_back_after_an_error():
    objective, (batch, *_) = make_objective(batch_norm=True), make_batches()
    identity = id(objective.model.backbone.norm.running_mean)
    del batch.targets["b"]
    with pytest.raises(KeyError):
        objective.measure(batch)
    assert id(objective.model.backbone.norm.running_mean) == identity
    assert objective.model.backbone.norm.num_batches_tracked == 0


@pytest.mark.parametrize("bad", [("a",), ("b", "c"), ("a", "b", "c")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_losses_name_all_their_tasks(bad, value):
    objective, (batch, *_) = make_objective(), make_batches()
    for task in bad:
        batch.targets[task][0, 0] = value
    with pytest.raises(NonFiniteError, match=" and ".join(bad)) as caught:
        objective.evaluate(batch)
    assert caught.value.tasks == bad
    with pytest.raises(NonFiniteError) as caught:
        objective.measure(batch)
    assert caught.value.tasks == bad


def test_a_bad_task_that_was_not_asked_for_is_no_error():
    objective, (batch, *_) = make_objective(), make_batches()
    batch.targets["c"][0, 0] = float("nan")
    objective.evaluate(batch, (0, 1))
    with pytest.raises(NonFiniteError, match="c = nan"):
        objective.evaluate(batch, (0, 1), measure=(2,))


def test_inf_and_minus_inf_are_not_cancelled():
    specs = [make_spec("a", loss=lambda p, t: p.sum() * 0 + torch.inf), make_spec("b"), make_spec("c")]
    objective, (batch, *_) = make_objective(specs=specs), make_batches()
    with pytest.raises(NonFiniteError, match="a = inf"):
        objective.evaluate(batch)


def test_finite_losses_whose_sum_overflows_are_no_error():
    specs = [make_spec(task, loss=lambda p, t: p.sum() * 0 + 3e38) for task in TASKS]
    objective, (batch, *_) = make_objective(specs=specs, dtype=torch.float32), make_batches(dtype=torch.float32)
    assert torch.isfinite(objective.evaluate(batch).values).all()


def test_parameters_by_index_and_name():
    objective = make_objective()
    for k, task in enumerate(TASKS):
        expected = [id(p) for p in objective.model.heads[task].parameters()]
        assert [id(p) for p in objective.task_parameters(k)] == expected
        assert [id(p) for p in objective.task_parameters(task)] == expected
    assert [id(p) for p in objective.shared_parameters()] == [id(p) for p in objective.model.backbone.parameters()]
    assert objective.num_tasks == 3
    assert objective.device.type == "cpu"


def test_require_features():
    require_features(make_objective(), "X")
    model = make_model(TASKS)
    model.heads["b"].weight = model.heads["a"].weight
    objective, (batch, *_) = make_objective(model=model), make_batches()
    assert objective.evaluate(batch).features == ()
    with pytest.raises(RequirementError, match=r"strategy\.level=parameters"):
        require_features(objective, "X")
