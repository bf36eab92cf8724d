"""Clipping: one helper, the same for every strategy that has an update gradient."""

import pytest
import torch

from mtl.errors import ConfigError, NonFiniteError
from mtl.strategies import LossWeightingStrategy, SimultaneousStrategy
from mtl.strategies.base import Clipping
from mtl.weighting import Uncertainty, Uniform
from tests.problems import (
    STRATEGIES,
    adam,
    begin,
    build_strategy,
    distance,
    fast_warmup,
    make_batches,
    make_objective,
    parameters_of,
    sgd,
)

CLIPPABLE = [name for name in STRATEGIES if not isinstance(build_strategy(name), SimultaneousStrategy)]


def run(name, limit, make_optimizer=sgd, count=4):
    """Parameters, reports, and per step the gradients (flat) that each optimizer step on the network saw."""
    objective = make_objective()
    strategy = build_strategy(name, *fast_warmup(name), f"strategy.max_grad_norm={limit}")
    begin(strategy, objective, make_optimizer)
    parameters = list(objective.model.parameters())
    network = {id(p) for p in parameters}
    seen: list[list[torch.Tensor]] = []

    def look(optimizer, args, kwargs):
        if any(id(p) in network for group in optimizer.param_groups for p in group["params"]):
            seen[-1].append(
                torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
            )

    for optimizer in strategy.optimizers:
        optimizer.register_step_pre_hook(look)
    reports = []
    for batch in make_batches(count=count):
        seen.append([])
        reports.append(strategy.step(batch))
    return parameters_of(objective), reports, seen


@pytest.mark.parametrize("name", CLIPPABLE)
def test_it_acts_for_every_strategy(name):
    free, plain_reports, plain = run(name, "null")
    limit = 0.3 * min(g.norm().item() for g in plain[0])
    clipped, reports, seen = run(name, limit)
    first, gradient = plain[0][0], seen[0][0]  # later ones are taken at other parameters
    torch.testing.assert_close(gradient / gradient.norm(), first / first.norm(), rtol=1e-9, atol=1e-12)
    for step, report in zip(seen, reports, strict=True):
        assert all(g.norm().item() <= limit for g in step)
        acted = sum(g.norm().item() > 0.999 * limit for g in step)
        assert report.diagnostics["grad_clipped"] == acted
    assert reports[0].diagnostics["grad_clipped"] >= 1
    assert reports[0].diagnostics["grad_norm"] >= first.norm().item() * (1 - 1e-9)
    assert distance(free, clipped) > 1e-6
    assert all("grad_norm" not in report.diagnostics for report in plain_reports)


@pytest.mark.parametrize("name", CLIPPABLE)
def test_null_and_a_limit_out_of_reach_change_nothing(name):
    """To the bit: a factor of 1 is no change."""
    free, _, _ = run(name, "null", adam)
    huge, reports, seen = run(name, 1e9, adam)
    assert distance(free, huge) == 0
    for step, report in zip(seen, reports, strict=True):
        assert report.diagnostics["grad_clipped"] == 0
        assert report.diagnostics["grad_norm"] == pytest.approx(max(g.norm().item() for g in step))


def test_null_calls_nothing(monkeypatch):
    monkeypatch.delattr(torch.nn.utils, "clip_grad_norm_")
    run("uniform", "null")
    with pytest.raises(AttributeError):
        run("uniform", 1.0)


def test_it_is_what_torch_does():
    objective, reference = make_objective(), make_objective()
    strategy = LossWeightingStrategy(Uniform(), max_grad_norm=0.5)
    begin(strategy, objective, sgd)
    parameters = list(reference.model.parameters())
    optimizer = sgd(parameters)
    for batch in make_batches():
        report = strategy.step(batch)
        optimizer.zero_grad()
        sum(reference.evaluate(batch).losses).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        assert report.diagnostics["grad_norm"] == pytest.approx(norm.item())
    assert distance(parameters_of(objective), parameters_of(reference)) < 1e-12


def test_own_parameters_of_a_weighting_do_not_count():
    """The gradient of the log-variances is neither in the norm nor clipped."""
    objective = make_objective()
    strategy = LossWeightingStrategy(Uncertainty(), max_grad_norm=1e-3)
    begin(strategy, objective, sgd)
    report = strategy.step(make_batches(count=1)[0])
    expected = -0.05 * (0.5 - 0.5 * report.losses)
    torch.testing.assert_close(strategy.weighting.log_variance.detach(), expected.float())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_gradient_stops_before_the_update(bad):
    """clip_grad_norm_ would spread it to every parameter."""
    objective = make_objective()
    strategy = LossWeightingStrategy(Uniform(), max_grad_norm=1.0)
    begin(strategy, objective, sgd)
    before = parameters_of(objective)
    objective.model.backbone.first.weight.register_hook(lambda gradient: gradient * bad)
    with pytest.raises(NonFiniteError, match="Non-finite gradient"):
        strategy.step(make_batches(count=1)[0])
    assert distance(before, parameters_of(objective)) == 0


@pytest.mark.parametrize("value", [0, -1.0, "x", True])
def test_the_limit_is_checked(value):
    with pytest.raises(ConfigError, match="max_grad_norm"):
        Clipping(value)
