"""Auto-Lambda and MOML against torch's autograd and optimizers."""

import pytest
import torch

from mtl.aggregation import MGDA, MOML, AutoLambda, Constant, GradNorm
from mtl.aggregation.solvers import active_set
from mtl.errors import ConfigError

TASKS = ("a", "b", "c")


def make(method):
    method.setup(TASKS, torch.Generator())
    return method


def hypergradients(count=6, rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 3, dtype=torch.float64, generator=generator) for _ in range(count)]


def losses(rows):
    return torch.linspace(0.5, 1.5, rows, dtype=torch.float64)


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("constraint", ["none", "non_negative", "softmax"])
def test_auto_lambda_against_autograd(rule, constraint):
    """Hypergradients are constants h: the trained scalar is h . w(raw)."""
    mine = make(AutoLambda(initial=0.1, lr=0.2, rule=rule, constraint=constraint))
    start = 0.0 if constraint == "softmax" else 0.1
    raw = torch.full((3,), start, dtype=torch.float64, requires_grad=True)
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]([raw], lr=0.2)
    for h in hypergradients():
        w = 0.3 * torch.softmax(raw, dim=0) if constraint == "softmax" else raw
        torch.testing.assert_close(mine.weights(), w.detach().clone(), rtol=1e-12, atol=1e-12)
        optimizer.zero_grad()
        (h[0] @ w).backward()
        optimizer.step()
        if constraint == "non_negative":
            raw.data.clamp_(min=0)
        mine.observe(h, losses(1))
        assert mine.diagnostics["negative_weights"] == (float((raw < 0).sum()) if constraint == "none" else 0)
    if constraint == "none":
        assert (raw < 0).any(), "nothing was tested"


def test_auto_lambda_counts_the_primary_tasks():
    assert make(AutoLambda()).objectives().tolist() == [[1.0, 1.0, 1.0]]
    assert make(AutoLambda(primary=["c", "a"])).objectives().tolist() == [[1.0, 0.0, 1.0]]
    for primary in (["d"], [], "a"):
        with pytest.raises(ConfigError, match="primary"):
            make(AutoLambda(primary=primary))


@pytest.mark.parametrize("apply_to", ["raw", "normalized"])
@pytest.mark.parametrize("total", ["one", "num_tasks"])
def test_moml_against_autograd(apply_to, total):
    """Rows by autograd through the softmax; min-norm weights of the rows over their losses; SGD."""
    mine = make(MOML(MGDA(normalization="loss", apply_to=apply_to), lr=0.3, rule="sgd", total=total))
    raw = torch.zeros(3, dtype=torch.float64)
    for h in hypergradients(rows=3, seed=2):
        factor = 3 if total == "num_tasks" else 1
        torch.testing.assert_close(mine.weights(), factor * torch.softmax(raw, dim=0))
        rows = torch.autograd.functional.jacobian(lambda x, h=h, c=factor: h @ (c * torch.softmax(x, dim=0)), raw)
        normalized = rows / losses(3)[:, None]
        chosen = active_set(normalized @ normalized.T).weights
        raw = raw - 0.3 * (chosen @ (rows if apply_to == "raw" else normalized))
        mine.observe(h, losses(3))
        torch.testing.assert_close(mine.raw.detach(), raw, rtol=1e-9, atol=1e-12)


def test_moml_with_a_sum_inside_is_auto_lambda_with_softmax():
    moml = make(MOML(Constant(1.0), lr=0.1, rule="adam"))
    auto = make(AutoLambda(initial=1 / 3, lr=0.1, constraint="softmax"))
    for h in hypergradients(rows=3, seed=4):
        moml.observe(h, losses(3))
        auto.observe(h.sum(dim=0, keepdim=True), losses(1))
        torch.testing.assert_close(moml.weights(), auto.weights())


@pytest.mark.parametrize("build", [AutoLambda, lambda: MOML(MGDA())])
def test_state_survives_a_round_trip(build):
    whole, first, second = make(build()), make(build()), make(build())
    rows = len(whole.objectives())
    steps = hypergradients(rows=rows)
    for h in steps:
        whole.observe(h, losses(rows))
    for h in steps[:3]:
        first.observe(h, losses(rows))
    second.load_state_dict(first.state_dict())
    for h in steps[3:]:
        second.observe(h, losses(rows))
    assert torch.equal(whole.weights(), second.weights())


def test_never_decayed():
    for method in (AutoLambda(), MOML(MGDA())):
        assert all(group["weight_decay"] == 0 for group in make(method).optimizer.param_groups)


@pytest.mark.parametrize(
    ("build", "option"),
    [
        (lambda: AutoLambda(initial=0.0), "initial"),
        (lambda: AutoLambda(lr=0.0), "lr"),
        (lambda: AutoLambda(rule="rmsprop"), "rule"),
        (lambda: AutoLambda(constraint="positive"), "constraint"),
        (lambda: MOML(MGDA(), lr=-1.0), "lr"),
        (lambda: MOML(MGDA(), total="two"), "total"),
    ],
)
def test_options_are_checked(build, option):
    with pytest.raises(ConfigError, match=option):
        build()


def test_an_inner_method_hears_of_the_end_of_an_epoch():
    """GradNorm's reference of the first epoch inside MOML would otherwise never be complete."""
    inner = GradNorm(reference="first_epoch")
    method = make(MOML(inner=inner))
    method.observe(torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    assert torch.isnan(inner.initial).all()
    method.end_epoch()
    assert torch.equal(inner.initial, torch.ones(3, dtype=torch.float64))
