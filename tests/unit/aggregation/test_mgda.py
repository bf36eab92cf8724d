"""MGDA: properties 1-6 of section 5 of the notes on Sener and Koltun 2018, and the options."""

import pytest
import torch

from mtl.aggregation import MGDA
from mtl.errors import ConfigError, NonFiniteError

LOSSES = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def rows(m=4, n=9, seed=0, shift=0.3):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(m, 1, dtype=torch.float64, generator=generator) + 0.5
    return (torch.randn(m, n, dtype=torch.float64, generator=generator) + shift) * scales


def solve(jacobian, losses=None, **options):
    losses = torch.ones(len(jacobian), dtype=torch.float64) if losses is None else losses
    return MGDA(**options)(jacobian @ jacobian.T, losses)


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(
        found, torch.as_tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance, check_dtype=True
    )


def test_two_tasks_match_a_scan():
    jacobian = torch.tensor([[1.0, 2.0, 0.0], [-0.5, 1.0, 1.0]], dtype=torch.float64)
    keep = solve(jacobian)
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    values = (grid[:, None] * jacobian[0] + (1 - grid)[:, None] * jacobian[1]).square().sum(1)
    assert keep[0].item() == pytest.approx(grid[values.argmin()].item(), abs=1e-5)
    direction = jacobian.T @ keep
    close(jacobian @ direction, [(direction @ direction).item()] * 2)


@pytest.mark.parametrize("seed", range(20))
def test_optimality(seed):
    """Property 2: g_t . d >= d . d with equality on the support, simplex, ||d|| <= min ||g_t||."""
    jacobian = rows(m=2 + seed % 9, seed=seed)
    weights = solve(jacobian)
    direction = jacobian.T @ weights
    square = (direction @ direction).item()
    products = jacobian @ direction
    assert (products >= square - 1e-10).all()
    close(products[weights > 0], [square] * int((weights > 0).sum()), 1e-9)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert direction.norm() <= jacobian.norm(dim=1).min() + 1e-12


@pytest.mark.parametrize("solver", ["frank_wolfe", "projected_gradient"])
def test_solvers_agree_on_the_norm(solver):
    """Property 3, within the accuracy of the iterative solvers."""
    for seed in range(5):
        jacobian = rows(seed=seed, shift=0.6)
        exact = (jacobian.T @ solve(jacobian)).norm().item()
        other = (jacobian.T @ solve(jacobian, solver=solver, max_iter=2000, tol=1e-9)).norm().item()
        assert exact * (1 - 1e-12) <= other <= exact * 1.005


def test_orthogonal_opposite_identical_and_one_task():
    """Property 4."""
    orthogonal = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    close(solve(orthogonal), [16 / 21, 4 / 21, 1 / 21])
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    assert (opposite.T @ solve(opposite)).norm().item() < 1e-12
    identical = torch.tensor([[1.0, 2.0]] * 3, dtype=torch.float64)
    close(identical.T @ solve(identical), [1.0, 2.0])
    close(solve(torch.tensor([[3.0, 4.0]], dtype=torch.float64)), [1.0])


def test_permutation_and_common_scale():
    """Property 5."""
    jacobian = rows()
    order = torch.tensor([2, 0, 3, 1])
    weights = solve(jacobian)
    close(solve(jacobian[order]), weights[order])
    close(solve(1e5 * jacobian), weights)


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize(("normalization", "power"), [("none", 1.0), ("l2", 0.0), ("loss", 0.0), ("loss+", -1.0)])
def test_scaling_one_loss(normalization, power, factor):
    """Property 6: the vector that enters the problem is times c ** power; checked through the weights."""
    jacobian, losses = rows(), LOSSES.clone()
    scaled, scaled_losses = jacobian.clone(), losses.clone()
    scaled[1] *= factor
    scaled_losses[1] *= factor
    found = solve(scaled, scaled_losses, normalization=normalization)
    vectors = normalized(jacobian, losses, normalization)
    vectors[1] *= factor**power
    close(found, solve(vectors))


def normalized(jacobian, losses, kind):
    """The vectors by definition (section 1.6), written out."""
    norms = jacobian.norm(dim=1)
    divisor = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss+": losses * norms}[kind]
    return jacobian / divisor[:, None]


@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+"])
def test_apply_to(normalization):
    """`raw`: alpha itself. `normalized`: the step is the min-norm vector of the normalised gradients."""
    jacobian = rows()
    vectors = normalized(jacobian, LOSSES, normalization)
    alpha = solve(vectors)
    close(solve(jacobian, LOSSES, normalization=normalization, apply_to="raw"), alpha)
    applied = solve(jacobian, LOSSES, normalization=normalization, apply_to="normalized")
    close(jacobian.T @ applied, vectors.T @ alpha)
    assert (normalization == "none") == torch.allclose(applied, alpha)


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_losses_that_cannot_be_divided_by(normalization, bad):
    losses = LOSSES.clone()
    losses[2] = bad
    with pytest.raises(NonFiniteError, match=r"normalization = l2` or `none`"):
        solve(rows(), losses, normalization=normalization)
    for harmless in ("none", "l2"):
        assert torch.isfinite(solve(rows(), losses, normalization=harmless)).all()


@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+"])
@pytest.mark.parametrize("apply_to", ["raw", "normalized"])
def test_a_zero_gradient_gets_all_the_weight(normalization, apply_to):
    jacobian = rows()
    jacobian[2] = 0
    weights = solve(jacobian, LOSSES, normalization=normalization, apply_to=apply_to)
    assert torch.isfinite(weights).all()
    assert weights.nonzero().flatten().tolist() == [2]
    assert (jacobian.T @ weights).norm() == 0


@pytest.mark.parametrize("swap", [False, True])
def test_endpoint_clip(swap):
    """Two tasks, one dominated: 0.999 / 0.001 as released, 1 / 0 without the clip."""
    jacobian = torch.tensor([[1.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    jacobian = jacobian.flip(0) if swap else jacobian
    clipped = solve(jacobian, solver="projected_gradient", init="best_pair", endpoint_clip=0.001).tolist()
    exact = solve(jacobian, solver="projected_gradient", init="best_pair").tolist()
    assert clipped == pytest.approx([0.001, 0.999] if swap else [0.999, 0.001])
    assert exact == [0.0, 1.0] if swap else [1.0, 0.0]


def test_endpoint_clip_leaves_an_inner_point_alone():
    jacobian = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    close(solve(jacobian, solver="projected_gradient", init="best_pair", endpoint_clip=0.001), [0.1, 0.9])


@pytest.mark.parametrize("solver", ["active_set", "frank_wolfe", "projected_gradient"])
def test_unconverged_solves_are_counted(solver):
    generator = torch.Generator().manual_seed(16)  # five tasks are to be added to those that `active_set` begins with
    jacobian = torch.randn(20, 12, dtype=torch.float64, generator=generator)
    jacobian += torch.randn(1, 12, dtype=torch.float64, generator=generator)
    gramian, losses = jacobian @ jacobian.T, torch.ones(20, dtype=torch.float64)
    limited = MGDA(solver=solver, max_iter=1)
    for count in (1, 2, 3):
        limited(gramian, losses)
        assert limited.diagnostics["unconverged_total"] == count
        assert limited.diagnostics["duality_gap"] > 1e-9
    restored = MGDA(solver=solver, max_iter=1)
    restored.load_state_dict(limited.state_dict())
    restored(gramian, losses)
    assert restored.diagnostics["unconverged_total"] == 4
    enough = MGDA()
    enough(gramian, losses)
    assert enough.diagnostics["unconverged_total"] == 0
    assert enough.diagnostics["duality_gap"] <= 1e-12
    assert enough.diagnostics["solver_iterations"] > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("normalization", "l1"),
        ("apply_to", "both"),
        ("solver", "newton"),
        ("init", "zeros"),
        ("endpoint_clip", 0.6),
        ("endpoint_clip", -0.1),
        ("max_iter", 0),
        ("tol", 0.0),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(ConfigError, match=option):
        MGDA(**{option: value})
