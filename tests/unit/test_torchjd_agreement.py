"""Agreement with torchjd 0.18, an independent implementation, and where it cannot be expected.

| ours                   | theirs                  | compared             | difference, and why                      |
|------------------------|-------------------------|----------------------|------------------------------------------|
| MGDA, active_set       | MGDAWeighting           | m = 2: weights;      | Frank-Wolfe, ends at gamma < 1e-3 or 100 |
|                        |                         | m <= 8: the norm     | steps: never shorter, often longer       |
| MGDA, frank_wolfe      | MGDAWeighting           | weights, n steps     | the stopping test (ours: duality gap)    |
| PCGrad                 | PCGradWeighting         | weights, same seed   | drawn from the global generator          |
| Uncertainty, form half | scalarization.UW        | value, weights, grad | no counterpart of form kendall (paper)   |
| DWA, window epoch      | scalarization.DWA       | weights, six epochs  | history outside `state_dict()`           |
| RLW, normal, total one | scalarization.Random,   | weights, same seed   | drawn from the global generator; our     |
|                        | RandomWeighting         |                      | default sums to m, as `uniform` does     |
| GLS                    | GeometricMean           | value, weights       | 0 passes its check                       |
| IMTLL                  | IMTLL                   | value, weights, grad | none                                     |
| STCH, transform none   | STCH                    | value, weights       | no form of the released code (log)       |
| FAMO                   | FAMO                    | weights, six steps   | none; masks of the 2nd forward: user's   |
| SI, DTP                | none                    | -                    | by hand in their own tests               |
| Constant, Uniform      | SumWeighting, Sum, Mean | weights              | none                                     |
| AlignedMTL, mean       | AlignedMTLWeighting     | weights, all scales  | rank tolerance of the default type       |
| IMTLG                  | IMTLGWeighting          | weights, full rank   | theirs: pseudo-inverse of G itself       |
| ConFIG                 | ConFIG                  | d                    | their SVD of unit rows, not of cosines   |
| GradVac                | GradVacWeighting        | weights and averages | m = 2 (their orders: global generator);  |
|                        |                         |                      | 1e-8 in the denominators                 |
| CRMOGM                 | CRMOGMWeighting         | weights, five steps  | none                                     |
| CAGrad, NashMTL,       | -                       | -                    | theirs need cvxpy, ECOS, quadprog;       |
| UPGrad, DualProj       |                         |                      | certificates and scipy in their tests    |
| FairGrad               | FairGradWeighting       | weights, rows of     | scipy least squares, 1e-8                |
|                        |                         | equal scale          |                                          |
| GradDrop, sign none    | GradDrop                | d, same seed (*)     | elements 0 for all tasks: theirs dropped |
| Random, total one      | RandomWeighting         | weights, seed (*)    | drawn from the global generator          |
| ExcessMTL              | ExcessMTLWeighting      | ratios of weights (*)| their first step moves the weights       |
| GradNorm, Static,      | none                    | -                    | by hand in their own tests               |
| MoCo, DBMTL            |                         |                      |                                          |
| MoDo, SDMGrad,         | none                    | -                    | written-out twins and autograd in their  |
| AutoLambda, MOML       |                         |                      | own tests                                |

(*) in the method's own test. All of theirs are also strategies: `mtl.aggregation.FromTorchJD`.
"""

import pytest
import torch

from mtl.aggregation import CRMOGM, IMTLG, MGDA, AlignedMTL, ConFIG, Constant, FairGrad, GradVac, PCGrad
from mtl.aggregation.solvers import frank_wolfe
from mtl.weighting import DWA, FAMO, GLS, IMTLL, RLW, STCH, Uncertainty, Uniform

aggregation = pytest.importorskip("torchjd.aggregation")
scalarization = pytest.importorskip("torchjd.scalarization")


def jacobians(m, n=12, count=10, shift=0.3):
    generator = torch.Generator().manual_seed(m)
    return [torch.randn(m, n, dtype=torch.float64, generator=generator) + shift for _ in range(count)]


def test_mgda_of_two_tasks():
    for jacobian in jacobians(2, n=3, count=50, shift=0.0):
        gramian = jacobian @ jacobian.T
        found = MGDA()(gramian, torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close(found, aggregation.MGDAWeighting()(gramian), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("m", range(3, 9))
def test_mgda_is_never_longer_than_theirs(m):
    for jacobian in jacobians(m):
        gramian = jacobian @ jacobian.T
        mine, theirs = MGDA()(gramian, torch.ones(m, dtype=torch.float64)), aggregation.MGDAWeighting()(gramian)
        lengths = [(w @ gramian @ w).sqrt().item() for w in (mine, theirs)]
        assert lengths[0] <= lengths[1] * (1 + 1e-12)
        assert lengths[0] == pytest.approx(lengths[1], rel=0.05)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_frank_wolfe_is_the_same_iteration(steps):
    for jacobian in jacobians(5):
        gramian = jacobian @ jacobian.T
        theirs = aggregation.MGDAWeighting(epsilon=1e-15, max_iters=steps)(gramian)
        mine = frank_wolfe(gramian, tol=1e-15, max_iter=steps).weights
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("m", [2, 3, 6, 12])
def test_pcgrad_with_the_same_orders(m):
    conflicts = 0.0
    for seed, jacobian in enumerate(jacobians(m, shift=0.0)):
        if seed % 3 == 0:
            jacobian[0] = -2 * jacobian[1]
        if seed % 3 == 1:
            jacobian[0] = 0
        gramian = jacobian @ jacobian.T
        torch.manual_seed(seed)
        theirs = aggregation.PCGradWeighting()(gramian)
        mine = PCGrad()
        mine.setup(m, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(mine(gramian, torch.ones(m)), theirs, rtol=1e-9, atol=1e-9)
        conflicts += mine.diagnostics["conflicts"]
    assert conflicts > 0


def test_uncertainty_value_weights_and_gradient():
    generator = torch.Generator().manual_seed(0)
    mine, theirs = Uncertainty(form="half"), scalarization.UW(4).double()
    mine.setup(tuple("abcd"), ("classification", "regression") * 2, torch.Generator())
    mine.double()
    for _ in range(5):
        s = torch.randn(4, dtype=torch.float64, generator=generator)
        losses = torch.rand(4, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            mine.log_variance.copy_(s)
            theirs.log_var.copy_(s)
        torch.testing.assert_close(mine(losses), theirs(losses))
        leaf = losses.clone().requires_grad_()
        weights, gradient = torch.autograd.grad(theirs(leaf), [leaf, theirs.log_var])
        torch.testing.assert_close(mine.weigh(losses), weights)
        torch.testing.assert_close(mine.log_variance.grad, gradient)


@pytest.mark.parametrize("temperature", [2.0, 0.5, 10.0])
def test_dwa_over_epochs(temperature):
    generator = torch.Generator().manual_seed(0)
    mine, theirs = DWA(temperature), scalarization.DWA(temperature)
    mine.setup(tuple("abc"), ("regression",) * 3, torch.Generator())
    spread = 0.0
    for epoch in range(6):
        for _ in range(1 + epoch % 3):
            losses = torch.rand(3, dtype=torch.float64, generator=generator) + 0.1
            leaf = losses.clone().requires_grad_()
            (expected,) = torch.autograd.grad(theirs(leaf), leaf)
            weights = mine.weigh(losses)
            torch.testing.assert_close(weights, expected, rtol=1e-12, atol=1e-12)
            spread = max(spread, (weights - 1).abs().max().item())
        mine.end_epoch()
        theirs.step()
    assert spread > 0.01


def test_random_weights_from_the_same_draws():
    mine = RLW(total="one")
    mine.setup(tuple("abcde"), ("regression",) * 5, torch.Generator().manual_seed(3))
    losses = torch.rand(5, dtype=torch.float64)
    for kind in ("scalarization", "aggregation"):
        torch.manual_seed(3)
        mine.generator.manual_seed(3)
        for _ in range(4):
            if kind == "scalarization":
                leaf = losses.clone().requires_grad_()
                (expected,) = torch.autograd.grad(scalarization.Random()(leaf), leaf)
            else:
                expected = aggregation.RandomWeighting()(torch.zeros(5, 2, dtype=torch.float64))
            torch.testing.assert_close(mine.weigh(losses), expected)


def test_sum_and_mean():
    gramian, losses = torch.eye(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    torch.testing.assert_close(Constant()(gramian, losses), aggregation.SumWeighting()(gramian))
    for reduce, theirs in (("sum", scalarization.Sum()), ("mean", scalarization.Mean())):
        leaf = losses.clone().requires_grad_()
        (expected,) = torch.autograd.grad(theirs(leaf), leaf)
        torch.testing.assert_close(Uniform(reduce).weigh(losses), expected)


def derivative(scalarizer, losses):
    leaf = losses.clone().requires_grad_()
    value = scalarizer(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def loss_vectors(m, count=5):
    generator = torch.Generator().manual_seed(m)
    return [torch.rand(m, dtype=torch.float64, generator=generator) + 0.1 for _ in range(count)]


def start(weighting, m):
    weighting.setup(tuple("abcdef"[:m]), ("regression",) * m, torch.Generator())
    return weighting


def test_geometric_mean():
    mine = start(GLS(), 4)
    for losses in loss_vectors(4):
        value, weights = derivative(scalarization.GeometricMean(), losses)
        torch.testing.assert_close(mine(losses), value)
        torch.testing.assert_close(mine.weigh(losses), weights)


def test_imtl_l_value_weights_and_gradient():
    mine, theirs = start(IMTLL(), 4).double(), scalarization.IMTLL(4).double()
    for losses in loss_vectors(4):
        with torch.no_grad():
            mine.log_scale.copy_(losses - 0.5)
            theirs.log_scale.copy_(losses - 0.5)
        value, weights = derivative(theirs, losses)
        torch.testing.assert_close(mine(losses), value)
        torch.testing.assert_close(mine.weigh(losses), weights)
        (gradient,) = torch.autograd.grad(theirs(losses), theirs.log_scale)
        torch.testing.assert_close(mine.log_scale.grad, gradient)


@pytest.mark.parametrize("mu", [1e-4, 0.1, 1.0, 10.0])
def test_smooth_tchebycheff(mu):
    preference, ideal = [0.5, 0.2, 0.3], [0.1, 0.0, -0.2]
    theirs = scalarization.STCH(mu, torch.tensor(preference), torch.tensor(ideal))
    mine = start(STCH(mu=mu, transform="none", preference=preference, ideal=ideal, scale="one"), 3)
    for losses in loss_vectors(3):
        value, weights = derivative(theirs, losses)
        torch.testing.assert_close(mine(losses), value)
        torch.testing.assert_close(mine.weigh(losses), weights)


def test_famo_over_steps():
    minima = [0.05, 0.0, 0.1]
    mine = start(FAMO(min_losses=minima), 3)
    theirs = scalarization.FAMO(3, min_losses=torch.tensor(minima, dtype=torch.float64)).double()
    for losses in loss_vectors(3, count=6):
        _, weights = derivative(theirs, losses)
        torch.testing.assert_close(mine.weigh(losses), weights, rtol=1e-7, atol=1e-9)
        after = 0.1 + losses.flip(0) * losses
        mine.observe_after(after)
        theirs.update(after)
    assert (mine.logits.max() - mine.logits.min()).item() > 0.01


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl(scale):
    for jacobian in jacobians(5):
        gramian = jacobian @ jacobian.T
        mine = AlignedMTL(scale=scale, reduce="mean")(gramian, torch.ones(5))
        theirs = aggregation.AlignedMTLWeighting(scale_mode=scale)(gramian)
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_imtl_g_and_config(m):
    for jacobian in jacobians(m):
        gramian, losses = jacobian @ jacobian.T, torch.ones(m)
        theirs = aggregation.IMTLGWeighting()(gramian)
        torch.testing.assert_close(IMTLG()(gramian, losses), theirs, rtol=1e-8, atol=1e-10)
        mine = ConFIG()(gramian, losses) @ jacobian
        torch.testing.assert_close(mine, aggregation.ConFIG()(jacobian), rtol=1e-8, atol=1e-10)


def test_gradvac_of_two_tasks():
    mine, theirs = GradVac(beta=0.5), aggregation.GradVacWeighting(beta=0.5, eps=0.0)
    mine.setup(2, torch.Generator())
    raised = 0.0
    for jacobian in jacobians(2, n=3, count=30, shift=0.0):
        gramian = jacobian @ jacobian.T
        torch.testing.assert_close(mine(gramian, torch.ones(2)), theirs(gramian), rtol=1e-8, atol=1e-8)
        raised += mine.diagnostics["raised"]
    assert raised > 0


def test_cr_mogm():
    mine = CRMOGM(AlignedMTL(reduce="mean"), alpha=0.7)
    theirs = aggregation.CRMOGMWeighting(aggregation.AlignedMTLWeighting(), alpha=0.7)
    mine.setup(4, torch.Generator())
    for jacobian in jacobians(4, count=5):
        gramian = jacobian @ jacobian.T
        torch.testing.assert_close(mine(gramian, torch.ones(4)), theirs(gramian), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad(alpha):
    for jacobian in jacobians(4):
        gramian = jacobian @ jacobian.T
        theirs = aggregation.FairGradWeighting(alpha=alpha)(gramian)
        mine = FairGrad(alpha=alpha, max_norm=0)(gramian, torch.ones(4))
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
