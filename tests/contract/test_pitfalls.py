"""What docs/pitfalls.md promises: that its tests exist, and the tests that belong to no other file."""

import itertools
import re

import pytest
import torch

from tests.contract.exceptions import SAME
from tests.problems import (
    REPOSITORY,
    STRATEGIES,
    adam,
    begin,
    build_strategy,
    distance,
    fast_warmup,
    make_batches,
    make_objective,
    parameters_of,
    plain_steps,
    sgd,
    train,
)

PAGE = (REPOSITORY / "docs/pitfalls.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| method", "| els"))
]
KNOWN_ELSEWHERE = ("graddrop", "moco", "modo", "sdmgrad", "excess_mtl", "auto_lambda", "db_mtl")
"""Methods with known defects in published code: each needs its rows as soon as it is here."""


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE))))
def test_the_named_tests_exist(name):
    path, _, function = name.partition("::")
    assert re.search(rf"^def {function}\(", (REPOSITORY / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test_or_a_reason(row):
    assert "`tests/" in row or "not offered:" in row


def test_methods_have_their_rows():
    first = {name for row in ROWS for name in re.split(r", ", row.split("|")[1].strip())}
    missing = [name for name in KNOWN_ELSEWHERE if name in STRATEGIES and name not in first]
    assert not missing, f"Add rows for {missing} to docs/pitfalls.md: what goes wrong elsewhere, and our test of it."


def test_no_two_methods_do_the_same():
    """Nine steps with Adam on tasks that conflict: every pair of methods ends at other parameters.

    With seed 1, in which a partition that is drawn is none of those that are given.
    """
    batches, ends = make_batches(count=9), {}
    for name in STRATEGIES:
        objective = make_objective()
        train(build_strategy(name, *fast_warmup(name)), objective, batches, adam, seed=1)
        ends[name] = parameters_of(objective)
    same = {pair for pair in itertools.combinations(sorted(ends), 2) if distance(ends[pair[0]], ends[pair[1]]) < 1e-9}
    assert same == set(SAME), "methods that do the same belong to SAME in exceptions.py, with the reason"


def test_cagrad_without_a_ball_is_the_summed_loss():
    """c = 0 and the released code's factor m: encoder and heads take the steps of `uniform`."""
    objective, plain, batches = make_objective(), make_objective(), make_batches()
    train(build_strategy("cagrad", "strategy.aggregator.c=0"), objective, batches, sgd)
    assert distance(parameters_of(objective), plain_steps(plain, batches, sgd)) < 1e-12


def test_gradnorm_first_step_is_the_summed_loss():
    """Its weights are 1 then: any factor on encoder or heads would be gradients added twice."""
    objective, plain, batches = make_objective(), make_objective(), make_batches(count=1)
    (report,) = train(build_strategy("gradnorm"), objective, batches, sgd)
    assert torch.equal(report.weights, torch.ones(3, dtype=torch.float64))
    assert distance(parameters_of(objective), plain_steps(plain, batches, sgd)) < 1e-12


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_three_samples_are_one_batch(name):
    """Three independent samples a step, and every sample of the batch in exactly one of them."""
    objective, (batch,) = make_objective(), make_batches(count=1)
    seen = []
    objective.model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    train(build_strategy(name), objective, [batch], sgd)
    assert len(seen) == 3
    assert sorted(torch.cat(seen).tolist()) == sorted(batch.inputs.tolist())


@pytest.mark.parametrize("name", ["auto_lambda", "moml"])
def test_statistics_of_a_bilevel_step_are_the_training_batch(name):
    """Neither the virtual step nor the held-out batch, here far away, moves BatchNorm's statistics."""
    objective, reference = make_objective(batch_norm=True), make_objective(batch_norm=True)
    strategy = begin(build_strategy(name), objective)
    strategy.held_out.split.inputs.add_(100.0)
    for batch in make_batches(count=3):
        reference.model.load_state_dict(objective.model.state_dict())
        reference.model.backbone(batch.inputs)
        strategy.step(batch)
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            found, expected = (getattr(o.model.backbone.norm, key) for o in (objective, reference))
            assert torch.equal(found, expected)
