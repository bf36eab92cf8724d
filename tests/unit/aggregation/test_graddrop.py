"""GradDrop: a decision per element, against the definition written out in plain loops."""

import pytest
import torch

from mtl.aggregation import Constant, GradDrop
from mtl.errors import ConfigError
from mtl.strategies import GradientStrategy
from tests.problems import adam, build_strategy, distance, make_batches, make_objective, parameters_of, sgd, train
from tests.unit.aggregation.jacobians import DEGENERATE, jacobian
from tests.unit.aggregation.rows import directions, ready, seen


def literal(rows, leaks, uniform, point=None, batch=()):
    """The definition, one number at a time."""
    m, n = rows.shape
    values = rows.tolist()
    z = [1.0] * n if point is None else point.tolist()
    result, start, drawn = [0.0] * n, 0, iter(uniform.tolist())
    for samples, size in batch or ((1, n),):
        for j in range(size):
            columns = [start + b * size + j for b in range(samples)]
            s = [sum((z[c] > 0) * values[k][c] - (z[c] < 0) * values[k][c] for c in columns) for k in range(m)]
            u, total = next(drawn), sum(abs(x) for x in s)
            positive = total > 0 and u < 0.5 * (1 + sum(s) / total)
            for k in range(m):
                wrong = total > 0 and (s[k] < 0 if positive else s[k] > 0)
                for c in columns:
                    result[c] += (leaks[k] if wrong else 1.0) * values[k][c]
        start += samples * size
    return torch.tensor(result, dtype=rows.dtype)


@pytest.mark.parametrize("batch", [(), ((4, 3),), ((2, 3), (2, 3)), ((1, 4), (4, 2))])
@pytest.mark.parametrize("leak", [0.0, 0.3, [0.0, 0.5, 1.0]])
def test_the_literal_definition(batch, leak):
    rows, point = jacobian(3, 12, seed=1), jacobian(1, 12, seed=2)[0]
    rows[:, 4] = 0
    point[7] = 0
    method = ready(GradDrop(leak=leak), rows)
    (found,) = directions(method, [rows], point=point, batch=batch)
    elements = sum(size for _, size in batch) or 12
    generator = torch.Generator().manual_seed(0)
    uniform = torch.cat([torch.rand(d, generator=generator) for _, d in batch or ((1, elements),)]).double()
    leaks = leak if isinstance(leak, list) else [leak] * 3
    torch.testing.assert_close(found, literal(rows, leaks, uniform, point, batch))
    assert 0 < method.diagnostics["dropped_fraction"] < 1


@pytest.mark.parametrize("level", ["features", "parameters"])
def test_full_leak_is_the_plain_sum(level):
    sign = "activation" if level == "features" else "none"
    batches, results = make_batches(), []
    for method in (GradDrop(leak=1.0, sign=sign), Constant(1.0)):
        objective = make_objective()
        train(GradientStrategy(method, level=level), objective, batches, adam)
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_kept_signs_agree_and_both_are_drawn():
    """At each element the parts that pass have one sign; a positive one with the frequency of the purity."""
    rows = torch.tensor([[3.0], [-1.0]], dtype=torch.float64).expand(2, 20_000)
    (found,) = directions(ready(GradDrop(sign="none"), rows), [rows])
    assert set(found.tolist()) == {3.0, -1.0}
    assert (found > 0).double().mean().item() == pytest.approx(0.75, abs=0.015)


def test_decisions_are_per_element():
    """SamsungLabs decides once per task and step."""
    rows = torch.stack([torch.ones(64), -torch.ones(64)]).double()
    (found,) = directions(ready(GradDrop(sign="none"), rows), [rows])
    assert 10 < (found > 0).sum() < 54


def test_the_sign_of_the_activation_turns_the_decision():
    """One task alone with a positive s is kept wherever the others agree in s, not in g."""
    rows = torch.tensor([[1.0, -1.0], [2.0, 3.0]], dtype=torch.float64)
    point = torch.tensor([1.0, -1.0], dtype=torch.float64)
    kept = directions(ready(GradDrop(), rows), [rows] * 20, point=point)
    assert all(d[0] == 3.0 for d in kept)
    assert {d[1].item() for d in kept} == {-1.0, 3.0}


def test_one_decision_for_the_whole_batch():
    batch = ((5, 3),)
    rows = torch.stack([torch.ones(15), -torch.ones(15)]).double()
    (found,) = directions(ready(GradDrop(), rows), [rows], batch=batch)
    assert (found.view(5, 3) == found.view(5, 3)[0]).all()


@pytest.mark.parametrize(("axis", "batch"), [("summed", ((7, 6),)), ("kept", ())])
def test_the_strategy_says_where_samples_are_summed(axis, batch):
    """One step of the strategy is the literal definition, pushed through the backbone."""
    reference, objective = make_objective(), make_objective()
    (data,) = make_batches(count=1)
    evaluation = reference.evaluate(data)
    (z,) = evaluation.features
    rows = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in evaluation.losses])
    uniform = torch.rand(6 if batch else 42, generator=torch.Generator().manual_seed(0)).double()
    direction = literal(rows, [0.0] * 3, uniform, z.flatten(), batch)
    expected = torch.autograd.grad(z, reference.shared_parameters(), direction.view_as(z))
    before = [p.detach().clone() for p in objective.shared_parameters()]
    train(build_strategy("graddrop", f"strategy.batch_axis={axis}"), objective, [data], sgd)
    for p, old, gradient in zip(objective.shared_parameters(), before, expected, strict=True):
        torch.testing.assert_close(p.detach() - old, -0.05 * gradient)


@pytest.mark.parametrize("rescale", ["sum", "released_code"])
def test_rescaling(rescale):
    rows = jacobian(3, 30, shift=0.3)
    plain = rows.sum(0).norm().item()
    (raw,) = directions(ready(GradDrop(sign="none"), rows), [rows])
    (found,) = directions(ready(GradDrop(sign="none", rescale=rescale), rows), [rows])
    expected = plain if rescale == "sum" else raw.norm().item() ** 2 / plain
    assert found.norm().item() == pytest.approx(expected)
    assert abs(expected - raw.norm().item()) > 1e-3
    torch.testing.assert_close(found / found.norm(), raw / raw.norm())


@pytest.mark.parametrize("name", [key for key in DEGENERATE if key != "float32"])
@pytest.mark.parametrize("rescale", ["none", "sum", "released_code"])
def test_degenerate_rows(name, rescale):
    rows = DEGENERATE[name]
    (found,) = directions(ready(GradDrop(rescale=rescale), rows), [rows])
    assert torch.isfinite(found).all()
    if name in ("zeros", "one", "duplicates"):  # no conflict, nothing dropped
        torch.testing.assert_close(found, rows.sum(0))


def test_draws_do_not_depend_on_the_precision():
    rows = jacobian(3, 50)
    double, single = (directions(ready(GradDrop(), r), [r])[0] for r in (rows, rows.float()))
    torch.testing.assert_close(double.float(), single)


def test_options_are_checked():
    for options in ({"leak": 1.5}, {"leak": [0.5, -1.0]}, {"sign": "gradient"}, {"rescale": "mean"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            GradDrop(**options)
    with pytest.raises(ConfigError, match="one for each of the 3"):
        ready(GradDrop(leak=[0.1, 0.2]), jacobian(3, 4))
    with pytest.raises(ConfigError, match="not defined at `level = parameters`"):
        build_strategy("graddrop", "strategy.level=parameters", "strategy.batch_axis=kept")
    build_strategy("graddrop", "strategy.level=parameters", "strategy.batch_axis=kept", "strategy.aggregator.sign=none")


def test_torchjd_with_the_same_draws():
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows, leak = jacobian(4, 25).float(), [0.0, 0.2, 0.5, 1.0]
    torch.manual_seed(5)
    theirs = aggregation.GradDrop(leak=torch.tensor(leak))(rows)
    mine = ready(GradDrop(leak=leak, sign="none"), rows, seed=5).aggregate(seen(rows)).direction
    torch.testing.assert_close(mine, theirs)
