"""Every method against a certificate or a literal twin, on the same 200 random Jacobians (MGDA: test_min_norm.py).

Certificates are computed from the Jacobian. What a float64 Gramian leaves open (m eps times the numbers that cancel) is
added to the tolerance where rows are close to dependent. Where a method is undefined, what its docstring says is
tested.
"""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from mtl.aggregation import IMTLG, AlignedMTL, CAGrad, FairGrad, GradVac, GramianWeighting, NashMTL, UPGrad
from mtl.aggregation.pcgrad import project
from mtl.config.catalog import catalog
from mtl.errors import NonFiniteError
from mtl.weighting import FAMO
from tests.unit.aggregation.jacobians import CASES, random_jacobian, weigh
from tests.unit.aggregation.test_min_norm import oracle

EPS = torch.finfo(torch.float64).eps
GRAMIAN = [method for method in catalog() if issubclass(method.documented, GramianWeighting)]


def unit(rows):
    norms = rows.norm(dim=1)
    live = norms > 0
    return rows[live] / norms[live, None], norms[live], live


def distance_from_zero(rows):
    """The squared norm of the shortest vector in the hull of the unit gradients, up to rounding 0 if 0 is in it."""
    return oracle(unit(rows)[0])[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("method", "power"), [(NashMTL, 1.0), (FairGrad, 0.5)])
def test_bargaining(case, method, power):
    """|(G a)_k a_k^p - 1| < 1e-6 where 0 is outside the hull of the gradients; else weights of sum 1 and no step."""
    rows = random_jacobian(case)
    solver = method(max_norm=0.0)
    weights = weigh(solver, rows)
    directions, norms, live = unit(rows)
    m = len(norms)
    assert (weights[~live] == 0).all()
    assert solver.diagnostics["left_out_total"] == (~live).sum()
    assert solver.diagnostics["unconverged_total"] == 0
    near = distance_from_zero(rows)
    if near < 0.1 * m * EPS:
        assert solver.diagnostics["stationary_total"] == 1
    if solver.diagnostics["stationary_total"]:
        assert near <= 16 * m * EPS
        assert weights.min() >= 0
        assert weights.sum().item() == pytest.approx(1)
        assert (rows.T @ weights).norm() <= 16 * (m * EPS) ** 0.5 * (weights @ rows.norm(dim=1))
        return
    a = weights[live]
    assert a.min() > 0
    v = a * norms
    product = (directions @ (directions.T @ v)) * norms
    rounding = 16 * m * EPS * v.sum() * norms * a**power
    assert ((product * a**power - 1).abs() <= 1e-6 + rounding).all()


@pytest.mark.parametrize("case", CASES)
def test_cagrad(case):
    """|d - g0| <= c |g0| with equality where the ball binds, and no task below the dual value."""
    rows, c = random_jacobian(case), 0.4
    m = len(rows)
    solver = CAGrad(c=c, rescale="none", match_sum=False)
    weights = weigh(solver, rows)
    g0, d = rows.mean(0), rows.T @ weights
    assert solver.diagnostics["unconverged_total"] == 0
    assert (d - g0).norm() <= c * g0.norm() * (1 + 1e-9) + 1e-12 * rows.norm()
    if solver.diagnostics["stationary_total"]:
        assert distance_from_zero(rows) <= 1e3 * m * EPS or g0.norm() <= 1e-7 * rows.norm(dim=1).mean()
        gains = (rows @ d)[rows.norm(dim=1) > 0] / rows.norm(dim=1)[rows.norm(dim=1) > 0]
        assert (gains >= -1e-6 * rows.norm(dim=1).mean()).all()
        return
    assert (d - g0).norm().item() == pytest.approx(c * g0.norm().item(), rel=1e-9)
    share = weights - 1 / m
    assert share.min() >= -1e-12 * weights.abs().max()
    share = share.clamp_min(0) / share.clamp_min(0).sum()
    dual = (rows.T @ share) @ g0 + c * g0.norm() * (rows.T @ share).norm()
    norms = rows.norm(dim=1)
    shortfall = (dual - rows @ d)[norms > 0] / (norms[norms > 0] * g0.norm())
    spread = (weights.abs() @ norms / g0.norm()).item()
    assert shortfall.max() <= 1e-6 + 16 * m * EPS * spread


@pytest.mark.parametrize("case", CASES)
def test_imtl_g(case):
    """Equal projections where the unit gradients are independent; elsewhere weights of sum 1, counted."""
    rows = random_jacobian(case)
    solver = IMTLG()
    weights = weigh(solver, rows)
    directions, norms, live = unit(rows)
    assert (weights[~live] == 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-9 * weights.abs().sum().item())
    values = torch.linalg.svdvals(directions)
    independent = len(values) == len(norms) and values[-1] ** 2 > 100 * len(norms) * EPS * values[0] ** 2
    assert not (independent and solver.diagnostics["rank"] < len(norms))
    if solver.diagnostics["rank_deficient_total"] == 0:
        projections = directions @ (rows.T @ weights)
        assert projections.max() - projections.min() <= 1e-6 * (weights.abs() @ rows.norm(dim=1))


@pytest.mark.parametrize("case", CASES)
def test_aligned_mtl(case):
    """The sum of the rows of a matrix of condition number 1: the polar factor of J, over the directions it can tell."""
    rows = random_jacobian(case)
    solver = AlignedMTL()
    weights = weigh(solver, rows)
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    rank = int(solver.diagnostics["rank"])
    assert (values[:rank] ** 2 > 0.1 * len(rows) * EPS * values[0] ** 2).all()
    assert (values[rank:] ** 2 < 100 * len(rows) * EPS * values[0] ** 2).all()
    aligned = values[rank - 1] * left[:, :rank] @ right[:rank]
    torch.testing.assert_close(torch.linalg.svdvals(aligned)[:rank], values[rank - 1].expand(rank))
    condition = (values[0] / values[rank - 1]).item()
    error = (rows.T @ weights - aligned.sum(0)).norm() / (values[rank - 1] * len(rows) ** 0.5)
    assert error <= 1e-6 + 100 * len(rows) * EPS * condition**2


@pytest.mark.parametrize("case", CASES)
def test_upgrad(case):
    """No gradient has a negative inner product with d."""
    rows = random_jacobian(case)
    solver = UPGrad()
    weights = weigh(solver, rows)
    directions, _, _ = unit(rows)
    assert solver.diagnostics["unconverged_total"] == 0
    assert weights.min() >= 1 / len(rows) - 1e-12
    assert (directions @ (rows.T @ weights)).min() >= -1e-9 * rows.norm(dim=1).sum()


def twin(rows: np.ndarray, orders: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gradient Vaccine on vectors, one pair after another; PCGrad where all targets are 0."""
    norms = np.linalg.norm(rows, axis=1)
    total = np.zeros(rows.shape[1])
    for i, order in enumerate(orders):
        vector = rows[i].copy()
        for j in order:
            length = np.linalg.norm(vector)
            if i == j or norms[j] == 0 or length == 0:
                continue
            cosine, target = np.clip(vector @ rows[j] / (length * norms[j]), -1, 1), targets[i, j]
            if cosine < target:
                sine, target_sine = np.sqrt(1 - cosine**2), np.sqrt(1 - target**2)
                vector += length * (target * sine - cosine * target_sine) / (norms[j] * target_sine) * rows[j]
        total += vector
    return total


@pytest.mark.parametrize("case", CASES)
def test_pcgrad_and_gradvac(case):
    """Coefficients give the vectors that the algorithms give, to 1e-6 of the gradients' lengths."""
    rows = random_jacobian(case)
    m = len(rows)
    generator = torch.Generator().manual_seed(case)
    orders = torch.stack([torch.randperm(m, generator=generator) for _ in range(m)])
    weights, _ = project(rows @ rows.T, orders)
    expected = twin(rows.numpy(), orders.numpy(), np.zeros((m, m)))
    limit = 1e-6 * rows.norm(dim=1).sum().item()
    assert np.abs(rows.T.numpy() @ weights.numpy() - expected).max() <= limit
    vaccine = GradVac()
    vaccine.setup(m, generator)
    vaccine.average.copy_(torch.rand(m, m, generator=generator, dtype=torch.float64) - 0.5)
    targets = vaccine.average.clone()
    weights, _ = vaccine.vaccinate(rows @ rows.T, orders)
    expected = twin(rows.numpy(), orders.numpy(), targets.numpy())
    scale = max(rows.norm(dim=1).sum().item(), np.abs(expected).max())
    assert np.abs(rows.T.numpy() @ weights.numpy() - expected).max() <= 1e-6 * scale


@pytest.mark.parametrize("case", CASES)
def test_famo(case):
    """One update of the logits is the derivative that autograd finds of z . (log D - log D'), z = softmax(xi)."""
    generator = torch.Generator().manual_seed(case)
    m = 2 + case % 39
    before, after = 10 ** (12 * torch.rand(2, m, generator=generator, dtype=torch.float64) - 6)
    famo = FAMO(rule="sgd", lr=0.5, weight_decay=0.01)
    famo.setup(tuple(map(str, range(m))), ("regression",) * m, generator)
    with torch.no_grad():
        famo.logits.copy_(torch.randn(m, generator=generator, dtype=torch.float64))
    start = famo.logits.detach().clone().requires_grad_()
    change = (before + famo.epsilon).log() - (after + famo.epsilon).log()
    (slope,) = torch.autograd.grad(torch.softmax(start, 0) @ change, start)
    weights = famo.weigh(before)
    famo.observe_after(after)
    torch.testing.assert_close(famo.logits.detach(), start.detach() - 0.5 * (slope + 0.01 * start.detach()))
    loss = before.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(torch.softmax(start.detach(), 0) @ (loss + famo.epsilon).log(), loss)
    torch.testing.assert_close(weights, wanted / wanted.sum())


def ready(method, m) -> GramianWeighting:
    aggregator = instantiate(method.node["aggregator"], _convert_="all")
    aggregator.setup(m, torch.Generator().manual_seed(0))
    return aggregator


@pytest.mark.parametrize("method", GRAMIAN, ids=lambda method: method.name)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_every_solver_ends_at_any_scale(method, scale):
    for case in range(0, 200, 10):
        rows = random_jacobian(case) * scale
        solver = ready(method, len(rows))
        weights = solver(rows @ rows.T, torch.ones(len(rows), dtype=torch.float64))
        assert torch.isfinite(weights).all(), case
        assert solver.diagnostics.get("unconverged_total", 0) == 0, case


@pytest.mark.parametrize("method", GRAMIAN, ids=lambda method: method.name)
@pytest.mark.parametrize("m", [2, 3, 40])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_every_solver_ends_on_numbers_that_are_none(method, m, bad):
    """A training step refuses them before (law 11, test_gradients.py); the solvers themselves have to end."""
    rows = torch.randn(m, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gramian: Tensor = rows @ rows.T
    gramian[1, 0] = gramian[0, 1] = bad
    found = []
    try:
        found = ready(method, m)(gramian, torch.ones(m, dtype=torch.float64)).tolist()
    except (NonFiniteError, torch.linalg.LinAlgError, ValueError, RuntimeError):
        return
    assert len(found) == m
