"""Golden values: one fixed Jacobian, the weights of every method on it, and where each number comes from.

J_base rows: g1 = (1, 0, 2, 0), g2 = (0, 3, -1, 0), g3 = (-2, 1, 0, 1).
G = J J^T: g1.g1 = 5, g2.g2 = 1 + 9 = 10, g3.g3 = 4 + 1 + 1 = 6, g1.g2 = -2, g1.g3 = -2, g2.g3 = 3.
"""

import math

import pytest
import torch

from mtl.aggregation import (
    CRMOGM,
    DBMTL,
    IMTLG,
    MGDA,
    MOML,
    AlignedMTL,
    AutoLambda,
    CAGrad,
    ConFIG,
    Constant,
    DualProj,
    ExcessMTL,
    FairGrad,
    GradDrop,
    GradNorm,
    GradVac,
    MoCo,
    MoDo,
    NashMTL,
    PCGrad,
    Random,
    SDMGrad,
    TaskGradients,
    UPGrad,
)
from mtl.aggregation.pcgrad import project
from mtl.weighting import DTP, DWA, FAMO, GLS, IMTLL, RLW, SI, STCH, Static, Uncertainty, Uniform

J_BASE = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 3.0, -1.0, 0.0], [-2.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
GRAMIAN = torch.tensor([[5.0, -2.0, -2.0], [-2.0, 10.0, 3.0], [-2.0, 3.0, 6.0]], dtype=torch.float64)
LOSSES = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)


def test_gramian_by_hand():
    assert torch.equal(J_BASE @ J_BASE.T, GRAMIAN)


def setup(aggregator, seed=0):
    aggregator.setup(3, torch.Generator().manual_seed(seed))
    return aggregator


AGGREGATORS = {
    # trivial
    "constant": (Constant(), [1.0, 1.0, 1.0]),
    # Closed form, all weights positive: w ~ G^-1 1. Cofactors of G by hand:
    #   row 1: 10*6 - 3*3 = 51;  -(-2*6 - 3*(-2)) = 6;  -2*3 - 10*(-2) = 14     sum 71
    #   row 2: 6;  5*6 - 4 = 26;  -(5*3 - (-2)(-2)) = -11                       sum 21
    #   row 3: 14; -11; 5*10 - 4 = 46                                          sum 49
    # w = (71, 21, 49) / 141; squared norm det / 141 = (5*51 - 2*6 - 2*14) / 141 = 215 / 141.
    "mgda": (MGDA(), [71 / 141, 21 / 141, 49 / 141]),
    "mgda_projected_gradient": (
        MGDA(solver="projected_gradient", tol=1e-13, max_iter=5000),
        [71 / 141, 21 / 141, 49 / 141],
    ),
    "mgda_frank_wolfe": (MGDA(solver="frank_wolfe", tol=1e-13, max_iter=50_000), [71 / 141, 21 / 141, 49 / 141]),
    # loss: rows divided by n = (2, 0.5, 1): alpha ~ n_k (G^-1 n)_k.
    #   cofactors times n: (51*2 + 6*.5 + 14, 6*2 + 26*.5 - 11, 14*2 - 11*.5 + 46) = (119, 14, 68.5)
    #   times n: (238, 7, 68.5), sum 313.5
    "mgda_loss": (MGDA(normalization="loss"), [238 / 313.5, 7 / 313.5, 68.5 / 313.5]),
    # applied to the normalised gradients: the same alpha / n
    "mgda_loss_normalized": (
        MGDA(normalization="loss", apply_to="normalized"),
        [119 / 313.5, 14 / 313.5, 68.5 / 313.5],
    ),
    # l2: n = (sqrt 5, sqrt 10, sqrt 6), the same formula evaluated in the test below
    # GradNorm: the first step uses weights 1
    "gradnorm": (GradNorm(), [1.0, 1.0, 1.0]),
    # CAGrad: |g0|^2 = sum of G / 9 = 19 / 9. Extra weight on task 1 only, y = c |g0| / |g1| = 0.4 sqrt(19 / 45): then
    #   g_k . d = (1/3 + 5 y, 11/3 - 2 y, 7/3 - 2 y) = (1.633, 3.147, 1.814): task 1 is the worst. Times 3 / 1.16.
    "cagrad": (CAGrad(), [(1 + 1.2 * math.sqrt(19 / 45)) / 1.16, 1 / 1.16, 1 / 1.16]),
    "cagrad_paper": (CAGrad(rescale="none", match_sum=False), [1 / 3 + 0.4 * math.sqrt(19 / 45), 1 / 3, 1 / 3]),
    # UPGrad: g1 conflicts with g2 and g3: 10 y2 + 3 y3 = 2 = 3 y2 + 6 y3, so y = (6, 14) / 51; g2 and g3 conflict with
    #   g1 only: y1 = 2 / 5 each. The average itself, (1/3, 11/3, 7/3), conflicts with none.
    "upgrad": (UPGrad(), [(1 + 4 / 5) / 3, (1 + 6 / 51) / 3, (1 + 14 / 51) / 3]),
    "dualproj": (DualProj(), [1 / 3, 1 / 3, 1 / 3]),
    # the first step is that of the method inside
    "cr_mogm": (CRMOGM(MGDA()), [71 / 141, 21 / 141, 49 / 141]),
}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_aggregators(name):
    aggregator, expected = AGGREGATORS[name]
    found = setup(aggregator)(GRAMIAN, LOSSES)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("normalization", "with_losses"), [("l2", False), ("loss+", True)])
def test_mgda_by_norms(normalization, with_losses):
    """alpha ~ n_k (cofactors n)_k with n = norms, or losses times norms; positive, so the closed form holds."""
    n = [math.sqrt(5), math.sqrt(10), math.sqrt(6)]
    if with_losses:
        n = [n[0] * 2.0, n[1] * 0.5, n[2] * 1.0]
    cofactors = [[51, 6, 14], [6, 26, -11], [14, -11, 46]]
    raw = [n[k] * sum(c * x for c, x in zip(cofactors[k], n, strict=True)) for k in range(3)]
    assert min(raw) > 0
    found = MGDA(normalization=normalization)(GRAMIAN, LOSSES)
    assert found.tolist() == pytest.approx([value / sum(raw) for value in raw], abs=1e-6)


def cofactors_times_norms():
    """det(G) G^-1 n, the weights of IMTL-G and ConFIG up to their length."""
    n = [math.sqrt(5), math.sqrt(10), math.sqrt(6)]
    return [sum(c * x for c, x in zip(row, n, strict=True)) for row in [[51, 6, 14], [6, 26, -11], [14, -11, 46]]]


def test_imtl_g_by_hand():
    raw = cofactors_times_norms()
    assert IMTLG()(GRAMIAN, LOSSES).tolist() == pytest.approx([value / sum(raw) for value in raw], abs=1e-6)


def test_config_by_hand():
    """d = (sum_k g_k . u) u along x = J^T G^-1 n with |x|^2 = n . G^-1 n and g_k . x = n_k."""
    raw, n = cofactors_times_norms(), [math.sqrt(5), math.sqrt(10), math.sqrt(6)]
    factor = sum(n) / sum(a * b for a, b in zip(raw, n, strict=True))
    assert ConFIG()(GRAMIAN, LOSSES).tolist() == pytest.approx([factor * value for value in raw], abs=1e-6)


@pytest.mark.parametrize(("scale", "square"), [("min", 1.0), ("median", 1.0), ("rmse", 2.0)])
def test_aligned_mtl_by_hand(scale, square):
    """G = [[2, 1], [1, 2]]: eigenvalues 1 and 3, and (1, 1) belongs to 3: B 1 = sqrt(square / 3) (1, 1)."""
    gramian = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    found = AlignedMTL(scale=scale)(gramian, LOSSES[:2])
    assert found.tolist() == pytest.approx([math.sqrt(square / 3)] * 2, abs=1e-6)


@pytest.mark.parametrize("method", [NashMTL(max_norm=0), FairGrad(alpha=1.0, max_norm=0)])
def test_nash_mtl_by_its_equation(method):
    """a_k (5 a1 - 2 a2 - 2 a3, ...) = 1 in plain floats."""
    a = method(GRAMIAN, LOSSES).tolist()
    for k, row in enumerate(GRAMIAN.tolist()):
        assert a[k] * sum(g * x for g, x in zip(row, a, strict=True)) == pytest.approx(1, abs=1e-6)


def test_nash_mtl_of_two_tasks_by_hand():
    """Norms p, q and cosine r: a = (1/p, 1/q) / sqrt(1 + r); g1, g2: p = sqrt 5, q = sqrt 10, r = -2 / sqrt 50."""
    root = math.sqrt(1 - 2 / math.sqrt(50))
    expected = [1 / math.sqrt(5) / root, 1 / math.sqrt(10) / root]
    assert NashMTL(max_norm=0)(GRAMIAN[:2, :2], LOSSES[:2]).tolist() == pytest.approx(expected, abs=1e-6)
    halved = [value / math.sqrt(2) for value in expected]  # |d| = sqrt 2 -> 1
    assert NashMTL()(GRAMIAN[:2, :2], LOSSES[:2]).tolist() == pytest.approx(halved, abs=1e-6)


def test_fairgrad_of_one_task_by_hand():
    """5 a = a^(-1/2): a = 5^(-2/3)."""
    assert FairGrad(max_norm=0)(GRAMIAN[:1, :1], LOSSES[:1]).item() == pytest.approx(5 ** (-2 / 3), abs=1e-6)


def test_gradvac_starts_as_pcgrad():
    """Averages 0: PCGrad's numbers, one of the two orders of task 1."""
    found = setup(GradVac(beta=0.0))(GRAMIAN, LOSSES).tolist()
    assert [round(value, 6) for value in found] in ([1.8, 1.2, 1.233333], [1.8, 1.1, 1.333333])


def step(aggregator, jacobian=J_BASE):
    """One step of an aggregator that needs the rows."""
    return aggregator.aggregate(TaskGradients(jacobian @ jacobian.T, LOSSES, jacobian, lambda: torch.ones(4)))


def with_rows(aggregator, seed=0):
    setup(aggregator, seed).allocate(J_BASE)
    return aggregator


def test_graddrop_draws_one_of_four():
    """Columns (1, 0, -2) and (2, -1, 0): either sign, with P = 1/3 and 2/3; (0, 3, 1) and (0, 0, 1): no conflict."""
    seen = [tuple(step(setup(GradDrop(sign="none"), seed)).direction.tolist()) for seed in range(40)]
    assert set(seen) == {(x, 4.0, y, 1.0) for x in (1.0, -2.0) for y in (2.0, -1.0)}
    assert sum(d[0] == 1.0 for d in seen) < 20 < sum(d[2] == 2.0 for d in seen)


def test_moco_first_step():
    """beta 1, gamma 0.1, rho 0: w = 1/3 - 0.1 (1/3, 11/3, 7/3) = (9, -1, 3) / 30, sum 11 / 30.

    Each + 19 / 90 on the simplex: (23, 8, 14) / 45.
    """
    method = with_rows(MoCo(beta=1.0, gamma=0.1, rho=0.0))
    assert step(method).direction.tolist() == pytest.approx([-5 / 45, 38 / 45, 38 / 45, 14 / 45], abs=1e-6)
    assert method.weights.tolist() == pytest.approx([23 / 45, 8 / 45, 14 / 45], abs=1e-6)


def test_db_mtl_without_average():
    """Norms (sqrt 5, sqrt 10, sqrt 6), all brought to sqrt 10: factors (sqrt 2, 1, sqrt(5/3))."""
    a, b = math.sqrt(2), math.sqrt(5 / 3)
    expected = [a - 2 * b, 3 + b, 2 * a - 1, b]
    assert step(with_rows(DBMTL(beta=0.0))).direction.tolist() == pytest.approx(expected, abs=1e-6)
    assert step(with_rows(DBMTL())).direction.tolist() == pytest.approx([0.1 * x for x in expected], abs=1e-6)


def test_excess_mtl_second_step():
    """First step: e = sums of |g|. Then g1 doubled: e1 = 4 |g| / sqrt 5, the others |g| / sqrt 2; eta 1."""
    method = with_rows(ExcessMTL(lr=1.0))
    assert step(method).weights.tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    parts = [math.exp(4 / math.sqrt(5)), math.exp(math.sqrt(0.5)), math.exp(math.sqrt(0.5))]
    doubled = J_BASE * torch.tensor([[2.0], [1.0], [1.0]], dtype=torch.float64)
    assert step(method, doubled).weights.tolist() == pytest.approx([3 * x / sum(parts) for x in parts], abs=1e-6)


@pytest.mark.parametrize(("total", "value"), [("num_tasks", 3), ("one", 1)])
def test_random_from_its_draws(total, value):
    found = setup(Random(total=total))(GRAMIAN, LOSSES).tolist()
    draws = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [math.exp(x) for x in draws.tolist()]
    assert found == pytest.approx([value * part / sum(parts) for part in parts], abs=1e-6)


def test_mgda_squared_norm():
    """QP optimum by hand: det G / sum of cofactors = 215 / 141."""
    weights = MGDA()(GRAMIAN, LOSSES)
    assert (weights @ GRAMIAN @ weights).item() == pytest.approx(215 / 141, abs=1e-6)


def test_mgda_on_the_boundary():
    """g3 replaced by 2 g1 + g2: no better than the best of g1, g2. Two-task form: (10 + 2) / (5 + 10 + 4) = 12 / 19."""
    jacobian = J_BASE.clone()
    jacobian[2] = 2 * J_BASE[0] + J_BASE[1]
    weights = MGDA()(jacobian @ jacobian.T, LOSSES)
    assert weights.tolist() == pytest.approx([12 / 19, 7 / 19, 0.0], abs=1e-6)


def test_pcgrad_by_hand():
    """Orders 1: (2, 3); 2: (1, 3); 3: (1, 2).

    Task 1 meets g2: -2 < 0, c = (1, 1/5, 0); inner with g3 = -2 + 3/5 = -7/5 < 0: c3 = 7/30.
    Task 2 meets g1: -2 < 0, c = (2/5, 1, 0); inner with g3 = -4/5 + 3 > 0.
    Task 3 meets g1: -2 < 0, c = (2/5, 0, 1); inner with g2 = -4/5 + 3 > 0.
    Sums: 1 + 2/5 + 2/5, 1/5 + 1, 7/30 + 1.
    """
    weights, conflicts = project(GRAMIAN, torch.tensor([[0, 1, 2], [1, 0, 2], [2, 0, 1]]))
    assert weights.tolist() == pytest.approx([1.8, 1.2, 37 / 30], abs=1e-6)
    assert conflicts == 4


def test_pcgrad_by_hand_in_the_other_order():
    """Task 1 meets g3 first: -2 < 0, c = (1, 0, 1/3); inner with g2 = -2 + 1 = -1 < 0: c2 = 1/10. Others as before."""
    weights, _ = project(GRAMIAN, torch.tensor([[0, 2, 1], [1, 0, 2], [2, 0, 1]]))
    assert weights.tolist() == pytest.approx([1.8, 1.1, 4 / 3], abs=1e-6)


def test_pcgrad_draws_one_of_the_two():
    """Tasks 2 and 3 meet g1 first or last: task 2: inner with g3 = 3 > 0 in either order, likewise task 3."""
    seen = {tuple(round(w, 6) for w in setup(PCGrad(), seed)(GRAMIAN, LOSSES).tolist()) for seed in range(20)}
    assert seen == {(1.8, 1.2, 1.233333), (1.8, 1.1, 1.333333)}


def test_gradnorm_second_step():
    """SGD, lr 0.1, equal rates: norms (sqrt 5, sqrt 10, sqrt 6), mean 2.6159; signs (-, +, -); renormalised to 3."""
    aggregator = setup(GradNorm(rule="sgd", lr=0.1))
    aggregator(GRAMIAN, LOSSES)
    moved = [1 + 0.1 * math.sqrt(5), 1 - 0.1 * math.sqrt(10), 1 + 0.1 * math.sqrt(6)]
    expected = [3 * value / sum(moved) for value in moved]
    assert aggregator(GRAMIAN, LOSSES).tolist() == pytest.approx(expected, abs=1e-6)


def test_gradnorm_second_step_with_rates():
    """Losses (2, .5, 1) -> (1, .5, .5): L~ = (.5, 1, .5), mean 2/3, r = (.75, 1.5, .75), alpha 1.

    The first step moved w as above; G_k = w_k |g_k|; targets mean(G) r_k. Computed below in plain floats.
    """
    aggregator = setup(GradNorm(rule="sgd", lr=0.1, alpha=1.0))
    aggregator(GRAMIAN, LOSSES)
    aggregator(GRAMIAN, torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64))
    norms = [math.sqrt(5), math.sqrt(10), math.sqrt(6)]
    w = [1 + 0.1 * norms[0], 1 - 0.1 * norms[1], 1 + 0.1 * norms[2]]
    w = [3 * value / sum(w) for value in w]
    lengths = [a * b for a, b in zip(w, norms, strict=True)]
    mean = sum(lengths) / 3
    signs = [1 if length > mean * rate else -1 for length, rate in zip(lengths, (0.75, 1.5, 0.75), strict=True)]
    assert signs == [1, -1, 1]
    w = [value - 0.1 * sign * norm for value, sign, norm in zip(w, signs, norms, strict=True)]
    expected = [3 * value / sum(w) for value in w]
    assert aggregator(GRAMIAN, LOSSES).tolist() == pytest.approx(expected, abs=1e-6)


def test_gradnorm_with_softmax():
    """SGD, lr 0.1: d/dw = (-sqrt 5, sqrt 10, -sqrt 6) as above; through 3 softmax(xi) at xi = 0: minus its mean."""
    aggregator = setup(GradNorm(rule="sgd", lr=0.1, parametrization="softmax"))
    aggregator(GRAMIAN, LOSSES)
    slope = [-math.sqrt(5), math.sqrt(10), -math.sqrt(6)]
    parts = [math.exp(-0.1 * (s - sum(slope) / 3)) for s in slope]
    expected = [3 * part / sum(parts) for part in parts]
    assert aggregator(GRAMIAN, LOSSES).tolist() == pytest.approx(expected, abs=1e-6)


def ready_for_three(method):
    method.setup(3)
    return method


def test_modo_by_hand():
    """G (1/3, 1/3, 1/3) = (1, 11, 7) / 3; with gamma = 0.03, rho = 0: 1/3 - (0.01, 0.11, 0.07), short of 1 by 0.19."""
    found = ready_for_three(MoDo(gamma=0.03, rho=0.0))(GRAMIAN)
    expected = [1 / 3 - step + 0.19 / 3 for step in (0.01, 0.11, 0.07)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_modo_on_the_boundary():
    """gamma = 0.3: 1/3 - (0.1, 1.1, 0.7). Task 2 drops out: 1 and 3 differ by 0.6 and sum to 1. rho moves nothing at
    equal weights: it takes the same from every task."""
    assert ready_for_three(MoDo(gamma=0.3))(GRAMIAN).tolist() == pytest.approx([0.8, 0.0, 0.2], abs=1e-6)


def test_sdmgrad_by_hand():
    """One step, not normalised: 1.3 (1, 11, 7) / 3 times beta as above; used: (w + lambda / 3) / 1.3 * 3."""
    method = ready_for_three(SDMGrad(regularization=0.3, iterations=1, lr=0.03 / 1.3, normalization="none"))
    w = [1 / 3 - step + 0.19 / 3 for step in (0.01, 0.11, 0.07)]
    assert method(GRAMIAN).tolist() == pytest.approx([3 * (x + 0.1) / 1.3 for x in w], abs=1e-6)


def test_sdmgrad_normalised():
    """C over ((sqrt 5 + sqrt 10 + sqrt 6) / 3)^2."""
    scale = ((math.sqrt(5) + math.sqrt(10) + math.sqrt(6)) / 3) ** 2
    method = ready_for_three(SDMGrad(regularization=0.0, iterations=1, lr=0.03 * scale, total="one"))
    expected = [1 / 3 - step + 0.19 / 3 for step in (0.01, 0.11, 0.07)]
    assert method(GRAMIAN).tolist() == pytest.approx(expected, abs=1e-6)


def test_auto_lambda_by_hand():
    """Adam's first step is its rate against the sign; SGD's is the rate times the hypergradient."""
    hypergradient, value = torch.tensor([[3.0, -2.0, 0.5]], dtype=torch.float64), LOSSES[:1]
    for rule, expected in (("adam", [-0.1, 0.3, -0.1]), ("sgd", [-0.5, 0.5, 0.0])):
        method = AutoLambda(initial=0.1, lr=0.2, rule=rule)
        method.setup(("a", "b", "c"), torch.Generator())
        assert method.weights().tolist() == pytest.approx([0.1] * 3)
        method.observe(hypergradient, value)
        assert method.weights().tolist() == pytest.approx(expected, abs=1e-6)
        assert method.diagnostics["negative_weights"] == (2 if rule == "adam" else 1)


def test_moml_by_hand():
    """Hypergradients J (first three columns, task 3's last entry left out), losses (2, .5, 1), SGD of rate 1.

    Rows through the softmax at 1/3: (h - mean h) / 3 with h = (1, 0, 2), (0, 3, -1), (-2, 1, 0), means 1, 2/3, -1/3:
    (0, -1, 1) / 3, (-2, 7, -5) / 9, (-5, 4, 1) / 9. Their Gramian over the losses is solved as in `mgda_loss`.
    """
    method = MOML(MGDA(normalization="loss"), lr=1.0, rule="sgd")
    method.setup(("a", "b", "c"), torch.Generator())
    method.observe(J_BASE[:, :3], LOSSES)
    rows = torch.tensor([[0.0, -3.0, 3.0], [-2.0, 7.0, -5.0], [-5.0, 4.0, 1.0]], dtype=torch.float64) / 9
    alpha = MGDA(normalization="loss")(rows @ rows.T, LOSSES)
    expected = torch.softmax(-(alpha @ rows), dim=0)
    assert method.weights().tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def weigh(weighting, losses=LOSSES):
    return weighting.weigh(losses).tolist()


def ready(weighting):
    weighting.setup(
        ("a", "b", "c"), ("regression", "classification", "classification"), torch.Generator().manual_seed(0)
    )
    return weighting.double() if not isinstance(weighting, Static) else weighting


WEIGHTINGS = {
    # trivial
    "uniform": (Uniform(), [1.0, 1.0, 1.0]),
    "uniform_mean": (Uniform("mean"), [1 / 3, 1 / 3, 1 / 3]),
    "static_list": (Static([0.5, 0.25, 2.0]), [0.5, 0.25, 2.0]),
    "static_mapping": (Static({"c": 2.0, "a": 0.5, "b": 0.25}), [0.5, 0.25, 2.0]),
    # closed form a_k exp(-s)
    "uncertainty": (Uncertainty(), [0.5, 1.0, 1.0]),
    "uncertainty_half": (Uncertainty(form="half"), [0.5, 0.5, 0.5]),
    "uncertainty_ln2": (Uncertainty(initial_log_variance=math.log(2)), [0.25, 0.5, 0.5]),
    # 1 in the first window
    "dwa": (DWA(), [1.0, 1.0, 1.0]),
    # prod = 1, G = 1: 1 / (3 L)
    "gls": (GLS(), [1 / 6, 2 / 3, 1 / 3]),
    "gls_num_tasks": (GLS("num_tasks"), [0.5, 2.0, 1.0]),
    # 1 / L
    "si": (SI(), [0.5, 2.0, 1.0]),
    # exp(s)
    "imtl_l": (IMTLL(), [1.0, 1.0, 1.0]),
    "imtl_l_ln2": (IMTLL(initial_scale=math.log(2)), [2.0, 2.0, 2.0]),
    # warm-up: 1 / L
    "stch": (STCH(), [0.5, 2.0, 1.0]),
    # softmax(L / mu) / 3 at lambda = 1/3, mu = 1/3: exp(2, .5, 1) = 7.3890561, 1.6487213, 2.7182818; sum 11.7560592
    "stch_equation": (
        STCH(mu=1 / 3, transform="none", preference=1 / 3, scale="one"),
        [0.2095106, 0.0467477, 0.0770748],
    ),
    # kappa = exp(-L), gamma 1: (1 - exp(-L)) L = 2 * 0.8646647, 0.5 * 0.3934693, 0.6321206
    "dtp": (DTP(gamma=1.0), [1.7293294, 0.1967347, 0.6321206]),
    # z = 1/3: 1 / L = (.5, 2, 1), sum 3.5
    "famo": (FAMO(), [1 / 7, 4 / 7, 2 / 7]),
}


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings(name):
    weighting, expected = WEIGHTINGS[name]
    assert weigh(ready(weighting)) == pytest.approx(expected, abs=1e-6)


def test_uncertainty_gradient():
    """1/2 - a_k exp(-s) L_k at s = 0: (0.5 - 1, 0.5 - 0.5, 0.5 - 1)."""
    weighting = ready(Uncertainty())
    weighting.weigh(LOSSES)
    assert weighting.log_variance.grad.tolist() == pytest.approx([-0.5, 0.0, -0.5], abs=1e-6)


def test_imtl_l_gradient():
    """exp(s) L - 1 at s = 0."""
    weighting = ready(IMTLL())
    weighting.weigh(LOSSES)
    assert weighting.log_scale.grad.tolist() == pytest.approx([1.0, -0.5, 0.0], abs=1e-6)


def test_stch_after_warmup():
    """Reference (2, .5, 1), then losses (1, .5, 2): ratios (.5, 1, 2), sum 3.5; mu 1: 3 ratio / (3.5 L)."""
    weighting = ready(STCH(warmup_epochs=0))
    weighting.weigh(LOSSES)
    weighting.end_epoch()
    found = weigh(weighting, torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
    assert found == pytest.approx([3 / 7, 12 / 7, 6 / 7], abs=1e-6)


def test_famo_second_step():
    """Losses (2, .5, 1) -> (1, .5, 2): changes ln 2 (1, 0, -1), mean 0, z = 1/3, gradient ln 2 / 3 (1, 0, -1).

    SGD, lr 3, gamma 0: logits ln 2 (-1, 0, 1); z ~ (.5, 1, 2); over L = (2, .5, 1): (.25, 2, 2), sum 4.25.
    """
    weighting = ready(FAMO(rule="sgd", lr=3.0, weight_decay=0.0))
    weighting.weigh(LOSSES)
    weighting.observe_after(torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
    assert weigh(weighting) == pytest.approx([1 / 17, 8 / 17, 8 / 17], abs=1e-6)


def test_dwa_third_window():
    """Means (2, .5, 1) then (1, .5, .25): r / T = (.25, .5, .125); exp = 1.2840254, 1.6487213,
    1.1331485; sum 4.0658952."""
    weighting = ready(DWA())
    for losses in (LOSSES, torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)):
        weighting.weigh(losses)
        weighting.end_epoch()
    assert weigh(weighting) == pytest.approx([0.9474116, 1.2165006, 0.8360878], abs=1e-6)


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_rlw_from_its_draws(distribution):
    """The definition on the same draws, in plain floats: softmax of normals; normalised exponentials."""
    found = weigh(ready(RLW(distribution)))
    generator = torch.Generator().manual_seed(0)
    if distribution == "normal":
        parts = [math.exp(x) for x in torch.randn(3, generator=generator, dtype=torch.float64).tolist()]
    else:
        parts = [-math.log(1 - x) for x in torch.rand(3, generator=generator, dtype=torch.float64).tolist()]
    assert found == pytest.approx([3 * part / sum(parts) for part in parts], abs=1e-6)
