"""The split of Adam's update, against Adam with one gradient at a time and against the update itself."""

import copy

import pytest
import torch

from mtl.diagnostics import Recorder
from mtl.errors import RequirementError
from tests.problems import adam, begin, build_strategy, make_batches, make_objective, sgd
from tests.toys import same_state
from tests.unit.diagnostics.problem import TASKS, record_run


def gradients_of(objective, batch):
    """(m, n) by one backward a task, on a copy."""
    copied = copy.deepcopy(objective)
    rows = []
    for index in range(len(TASKS)):
        copied.model.zero_grad()
        copied.evaluate(batch).losses[index].backward()
        rows.append(torch.cat([p.grad.flatten() for p in copied.shared_parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("name", "count"), [("uniform", 1), ("uniform", 5), ("uncertainty", 5), ("mgda", 5), ("dwa", 6)]
)
def test_parts_written_out_add_up_to_the_update(name, count):
    """u_k by the formula, over all steps from the first; their sum is how far Adam moved."""
    objective = make_objective()
    strategy = begin(build_strategy(name), objective, adam)
    batches = make_batches(count=count)
    moments, second = torch.zeros(3, 0), None
    for step, batch in enumerate(batches, start=1):
        rows = gradients_of(objective, batch)
        before = torch.cat([p.detach().flatten().clone() for p in objective.shared_parameters()])
        weights = strategy.step(batch).weights.to(rows)
        moments = (0 if step == 1 else 0.9 * moments) + 0.1 * weights[:, None] * rows
        total = (weights[:, None] * rows).sum(0)
        second = (0 if step == 1 else 0.999 * second) + 0.001 * total**2
        moved = torch.cat([p.detach().flatten() for p in objective.shared_parameters()]) - before
        parts = -0.01 * (moments / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(parts.sum(0), moved, rtol=1e-9, atol=1e-12)
    *_, found = record_run(name, count, count=count, objective=make_objective(), shares="updates")
    fields = found[count]
    assert fields["split_error"] < 1e-9
    names = [name.rpartition(".")[0] for name in objective.partition.names.values() if name.startswith("backbone")]
    sizes = [p.numel() for p in objective.shared_parameters()]
    owner = [layer for layer, size in zip(names, sizes, strict=True) for _ in range(size)]
    for layer, by_task in fields["update_share"].items():
        inside = torch.tensor([own == layer for own in owner])
        means = parts[:, inside].abs().mean(1)
        for task, share in zip(TASKS, means / means.sum(), strict=True):
            assert by_task[task] == pytest.approx(float(share), rel=1e-9)


def test_one_task_has_it_all():
    *_, found = record_run("uniform", 1, count=1, objective=make_objective(("a",)), shares="updates")
    assert found[1]["update_share"]["backbone.first"] == {"a": 1.0}


def test_training_is_the_same_to_the_bit():
    plain, strategy, *_ = record_run("uniform", None)
    seen, watched, *_ = record_run("uniform", 2, shares="updates")
    assert same_state(dict(plain.model.state_dict()), dict(seen.model.state_dict()))
    assert same_state(strategy.state_dict(), watched.state_dict())


def test_what_clipping_takes_is_told():
    """With a clipped gradient the parts do not add up: no shares, and the error says why."""
    overrides = ("strategy.max_grad_norm=0.01",)
    *_, found = record_run("uniform", 3, overrides=overrides, objective=make_objective(), shares="updates")
    assert found[6]["split_error"] > 0.1
    assert "update_share" not in found[6]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(RequirementError, match="Found SGD"):
        record_run("uniform", 1, shares="updates", make_optimizer=sgd)
    with pytest.raises(RequirementError, match="weighted sum"):
        record_run("graddrop", 1, shares="updates")


@pytest.mark.parametrize("name", ["mao", "igd_per_task"])
def test_tasks_with_steps_of_their_own_need_no_split(name):
    """One sweep can hold all methods: theirs are the shares of their own updates, and later steps cost nothing."""
    *_, found = record_run(name, 3, shares="updates")
    *_, expected = record_run(name, 3)
    assert found == expected
    objective = make_objective()
    strategy = begin(build_strategy(name), objective, adam)
    recorder = Recorder(objective, strategy, 5, False, "updates")
    (batch,) = make_batches(count=1)
    assert recorder.looks(1)
    recorder.before(batch, 1)
    recorder.after(strategy.step(batch))
    assert not recorder.looks(2)
    assert recorder.looks(5)


def test_continues_to_the_same_bits():
    def run(cut):
        objective = make_objective()
        strategy = begin(build_strategy("uniform"), objective, adam)
        recorder = Recorder(objective, strategy, 6, False, "updates")
        for step, batch in enumerate(make_batches(), start=1):
            if step == cut:
                model, states = (
                    copy.deepcopy(objective.model.state_dict()),
                    copy.deepcopy((strategy.state_dict(), recorder.state_dict())),
                )
                objective = make_objective()
                strategy = begin(build_strategy("uniform"), objective, adam)
                recorder = Recorder(objective, strategy, 6, False, "updates")
                objective.model.load_state_dict(model)
                strategy.load_state_dict(states[0])
                recorder.load_state_dict(states[1])
            recorder.before(batch, step)
            fields = recorder.after(strategy.step(batch))
        return fields

    assert run(4) == run(None)
