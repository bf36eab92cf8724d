"""Path length and displacement against a trace of the parameters written beside the training."""

import itertools

import pytest
import torch

from mtl.diagnostics import Recorder
from tests.problems import adam, begin, build_strategy, make_batches, make_objective, sgd


def trace(name, make_optimizer):
    """Shared parameters at the start, after each optimizer step on them, and after each batch."""
    objective = make_objective(batch_norm=True)
    strategy = begin(build_strategy(name), objective, make_optimizer)

    def now():
        return torch.cat([p.detach().flatten() for p in objective.shared_parameters()])

    points = [now()]
    for optimizer in strategy.optimizers:
        original = optimizer.step

        def step(*args, original=original):
            original(*args)
            points.append(now())

        optimizer.step = step
    for batch in make_batches():
        strategy.step(batch)
        points.append(now())
    length = sum(float((b - a).norm()) for a, b in itertools.pairwise(points))
    return length, float((points[-1] - points[0]).norm())


def recorded(name, make_optimizer, cut=None):
    """The recorder's values; with `cut`, of a second recorder that continues from the first one's state."""
    objective = make_objective(batch_norm=True)
    strategy = begin(build_strategy(name), objective, make_optimizer)
    recorder = Recorder(objective, strategy, None, True)
    for index, batch in enumerate(make_batches()):
        if index == cut:
            saved = {key: value.clone() for key, value in objective.model.state_dict().items()}
            states = strategy.state_dict(), recorder.state_dict()
            objective = make_objective(batch_norm=True)
            strategy = begin(build_strategy(name), objective, make_optimizer, seed=9)
            recorder = Recorder(objective, strategy, None, True)
            objective.model.load_state_dict(saved)
            strategy.load_state_dict(states[0])
            recorder.load_state_dict(states[1])
        strategy.step(batch)
        recorder.stepped()
    return recorder.path.record()


@pytest.mark.parametrize("make_optimizer", [sgd, adam])
@pytest.mark.parametrize("name", ["uniform", "igd", "igd_per_task", "mao", "maximum_roaming", "mgda"])
def test_sums_over_optimizer_steps(name, make_optimizer):
    length, displacement = trace(name, make_optimizer)
    found = recorded(name, make_optimizer)
    assert found["path_length"] == pytest.approx(length, rel=1e-9)
    assert found["displacement"] == pytest.approx(displacement, rel=1e-9)
    assert found["path_length"] >= found["displacement"]


def test_sequential_updates_are_counted_one_by_one():
    """Three sub-steps are longer than their sum."""
    assert recorded("igd", adam)["path_length"] > recorded("mao", adam)["path_length"]


@pytest.mark.parametrize("name", ["igd", "mao"])
def test_continues_to_the_same_bits(name):
    assert recorded(name, adam, cut=4) == recorded(name, adam)


def test_heads_do_not_count():
    objective = make_objective()
    strategy = begin(build_strategy("uniform"), objective, adam)
    recorder = Recorder(objective, strategy, None, True)
    with torch.no_grad():
        for task in objective.tasks:
            for p in objective.task_parameters(task):
                p += 1
    strategy.optimizers[0].step()
    assert recorder.path.record() == {"path_length": 0, "displacement": 0}
