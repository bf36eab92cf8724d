"""The recorder: it changes nothing, and every field is what an independent slow computation finds."""

import copy
import json
import math

import pytest
import torch

from mtl.diagnostics import Recorder
from mtl.tracking.base import finite
from tests.problems import VARIANTS, adam, begin, build_strategy, make_batches, make_objective, sgd
from tests.toys import same_state
from tests.unit.diagnostics.problem import TASKS, dropout_objective, record_run


@pytest.mark.parametrize("name", VARIANTS)
def test_training_is_the_same_to_the_bit(name):
    """Parameters, buffers, strategy state, reports and the global generator, with BatchNorm and dropout."""
    plain, plain_strategy, reports, _ = record_run(name, None)
    after = torch.get_rng_state()
    seen, strategy, seen_reports, found = record_run(name, 2, path=True)
    assert torch.equal(after, torch.get_rng_state())
    assert same_state(dict(plain.model.state_dict()), dict(seen.model.state_dict()))
    assert same_state(plain_strategy.state_dict(), strategy.state_dict())
    assert all(same_state(a.losses, b.losses) for a, b in zip(reports, seen_reports, strict=True))
    assert all(p.grad is None for p in seen.model.parameters())
    assert sorted(found) == [2, 4, 6]
    json.dumps(finite(found), allow_nan=False)


@pytest.mark.parametrize("name", VARIANTS)
def test_shares_sum_to_one_over_the_tasks(name):
    *_, reports, found = record_run(name, 3)
    for step, fields in found.items():
        gives = reports[step - 1].weights is not None or reports[step - 1].substeps is not None
        assert ("update_share" in fields) == gives
        for layer in fields.get("update_share", {}).values():
            assert set(layer) == set(TASKS)
            assert sum(layer.values()) == pytest.approx(1)


def test_fields_of_a_weighted_sum_by_hand():
    """Static weights under SGD: gradients by another way, one loss at a time, and the update that they make."""
    weights = {"a": 0.5, "b": 2.0, "c": 1.0}
    overrides = ("strategy.weighting.weights={a: 0.5, b: 2.0, c: 1.0}",)
    objective = make_objective()
    start = copy.deepcopy(objective)
    *_, found = record_run("static", 1, count=1, overrides=overrides, make_optimizer=sgd, objective=objective)
    fields = found[1]
    (batch,) = make_batches(count=1)
    gradients = {}
    for index, task in enumerate(TASKS):
        start.model.zero_grad()
        start.evaluate(batch).losses[index].backward()
        gradients[task] = {
            name: p.grad.clone() for name, p in start.model.named_parameters() if name.startswith("backbone")
        }
    flat = torch.stack([torch.cat([g.flatten() for g in gradients[task].values()]) for task in TASKS])
    assert list(fields["gradient_norms"].values()) == pytest.approx(flat.norm(dim=1).tolist())
    for i in range(3):
        for j in range(3):
            assert fields["cosines"][i][j] == pytest.approx(float(torch.cosine_similarity(flat[i], flat[j], dim=0)))
    assert fields["condition_number"] == pytest.approx(float(torch.linalg.cond(flat)))
    update = -0.05 * sum(weights[task] * row for task, row in zip(TASKS, flat, strict=True))
    assert fields["update_norm"] == pytest.approx(float(update.norm()))
    cosine = float(torch.cosine_similarity(update, -flat.sum(0), dim=0))
    assert fields["angle_to_uniform"] == pytest.approx(math.degrees(math.acos(cosine)))
    assert fields["weights"] == pytest.approx(weights)
    assert list(fields["update_share"]) == ["backbone.first", "backbone.last"]
    for layer, by_task in fields["update_share"].items():
        parts = {
            task: weights[task]
            * torch.cat([g.flatten() for name, g in gradients[task].items() if name.startswith(layer)]).abs().mean()
            for task in TASKS
        }
        for task in TASKS:
            assert by_task[task] == pytest.approx(float(parts[task] / sum(parts.values())))


def test_uniform_under_sgd_is_at_angle_zero():
    *_, found = record_run("uniform", 1, make_optimizer=sgd)
    assert all(fields["angle_to_uniform"] < 0.01 for fields in found.values())


def replay(name, make_optimizer, count, moved):
    """Absolute changes of `moved(strategy)` by each call of an optimizer in the last of `count` steps, by layer."""
    objective = make_objective()
    strategy = begin(build_strategy(name), objective, make_optimizer)
    *first, last = make_batches(count=count)
    for batch in first:
        strategy.step(batch)
    tensors = moved(objective, strategy)
    changes = []
    for optimizer in strategy.optimizers:
        original = optimizer.step

        def step(*args, original=original):
            before = [t.detach().clone() for t in tensors]
            original(*args)
            changes.append([(t.detach() - b).abs().flatten() for t, b in zip(tensors, before, strict=True)])

        optimizer.step = step
    strategy.step(last)
    layers = [p.rpartition(".")[0] for p in objective.partition.names.values() if p.startswith("backbone")]
    return [
        {
            layer: torch.cat([d for d, own in zip(change, layers, strict=True) if own == layer]).mean()
            for layer in layers
        }
        for change in changes
    ]


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("igd_per_task", lambda objective, strategy: objective.shared_parameters()),
        ("igd", lambda objective, strategy: objective.shared_parameters()),
        ("mao", lambda objective, strategy: strategy._update),
    ],
)
def test_shares_of_the_tasks_own_updates(name, moved):
    """One optimizer step a task: the share is that of its own change of the parameters."""
    parts = replay(name, adam, 3, moved)
    assert len(parts) == 3
    *_, found = record_run(name, 3, count=3, objective=make_objective())
    for layer, by_task in found[3]["update_share"].items():
        total = sum(part[layer] for part in parts)
        for task, part in zip(TASKS, parts, strict=True):
            assert by_task[task] == pytest.approx(float(part[layer] / total), rel=1e-9)


def test_one_group_of_all_tasks_is_divided_as_the_gradients_are():
    """Then it is the share of the uniform sum."""
    *_, grouped = record_run("fixed_groups", 1, objective=make_objective())
    *_, uniform = record_run("uniform", 1, objective=make_objective())
    assert grouped[1]["groups"] == [["a", "b", "c"]]
    for layer, by_task in uniform[1]["update_share"].items():
        assert grouped[1]["update_share"][layer] == pytest.approx(by_task, rel=1e-9)


def test_affinities_and_groups_are_the_strategys():
    _, strategy, _, found = record_run("selective_groups", 1)
    assert found[6]["affinity"] == strategy.grouping.affinity.tolist()
    assert sorted(task for group in found[6]["groups"] for task in group) == list(TASKS)
    _, strategy, _, found = record_run("tag_affinity", 1)
    assert found[6]["affinity"] == strategy.affinity.tolist()
    *_, found = record_run("uniform", 1)
    assert "affinity" not in found[1]
    assert "groups" not in found[1]


def test_the_measured_gradients_have_the_steps_dropout_masks():
    """The Gramian of a strategy that measures one itself, in the same step."""
    *_, reports, found = record_run("pcgrad", 2)
    for step, fields in found.items():
        expected = reports[step - 1].gramian.diagonal().sqrt().tolist()
        assert list(fields["gradient_norms"].values()) == pytest.approx(expected, rel=1e-5)


def test_one_task_has_no_pairs():
    *_, found = record_run("uniform", 1, objective=make_objective(("a",)), count=1)
    assert math.isnan(found[1]["conflict_rate"])
    assert found[1]["condition_number"] == 1
    assert found[1]["update_share"]["backbone.first"] == {"a": 1.0}


def test_when_a_step_is_measured():
    objective = make_objective()
    strategy = begin(build_strategy("uniform"), objective, adam)
    due = {every: Recorder(objective, strategy, every, False).looks for every in (None, 3, "auto")}
    assert [step for step in range(1, 10) if due[3](step)] == [3, 6, 9]
    assert [step for step in range(1, 400) if due["auto"](step)] == [160, 320]
    assert not any(due[None](step) for step in range(1, 400))


def test_nothing_is_left_on_the_model():
    objective = dropout_objective()
    strategy = begin(build_strategy("igd"), objective, adam)
    recorder = Recorder(objective, strategy, 1, False)
    (batch,) = make_batches(count=1, dtype=torch.float32)
    recorder.before(batch, 1)
    assert recorder.after(strategy.step(batch)) is not None
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in objective.model.modules())
    assert not any(optimizer._optimizer_step_post_hooks for optimizer in strategy.optimizers)
