"""Multiple-gradient descent."""

from functools import partial

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers import Solution, active_set, frank_wolfe, projected_gradient
from mtl.errors import ConfigError, NonFiniteError
from mtl.validation import check_choice, check_count, check_non_negative, check_positive

NORMALIZATIONS = ("none", "l2", "loss", "loss+")
SOLVERS = ("active_set", "frank_wolfe", "projected_gradient")


class MGDA(GramianWeighting):
    r"""Multiple-gradient descent (Sener and Koltun 2018, arXiv:1810.04650, eq. 3; Desideri 2012).

    .. math:: \min_{\alpha \ge 0,\ \sum\alpha = 1} \Big\lVert \sum_k \alpha_k g_k / n_k \Big\rVert^2

    where :math:`n_k` is 1 (`none`), :math:`\lVert g_k\rVert` (`l2`), :math:`L_k` (`loss`) or
    :math:`L_k \lVert g_k\rVert` (`loss+`). At the feature level this is MGDA-UB.

    Args:
        normalization: `none` (paper), `l2`, `loss`, `loss+` (released code's option). The losses have to be > 0 for
            the last two.
        apply_to: The weights multiply the `raw` gradients (released code) or the `normalized` ones (Kurin et al. 2022
            for full MGDA), which makes the step the min-norm vector itself.
        solver: `active_set` (ours, exact), `frank_wolfe` (paper), `projected_gradient` (released code).
        init: Start of the two iterative solvers: `uniform` (paper) or `best_pair` (released code).
        endpoint_clip: In [0, 0.5): the released code's 0.001, which keeps every task of a pair in play; 0 is correct.
        max_iter: Iteration limit, at least 1; 250 in the released code (where it has no effect).
        tol: Stopping test of the solver, > 0: relative duality gap, or change of weights for `projected_gradient`.

    Strategy options that belong to it: `head_gradients: own` (paper, Algorithm 2) or `weighted` (released code).

    Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, arXiv:1810.04650,
    eq. 3 and Algorithm 2; Desideri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization",
    2012.

    **Deviations.** Paper: Frank-Wolfe from 1/m, own head gradients, no normalization. Released code: projected
    gradient from the best pair, end points 0.001/0.999, scaled heads, optional normalization; crashes at m = 1 or
    norms above 1e4, never stops on NaN. Ours: the exact solver; the answer's duality gap is logged, a solve that hits
    its limit is counted in `unconverged_total`. A zero gradient keeps n_k = 1, gets all the weight and stops the
    shared parameters: a Pareto-stationary point.
    """

    unconverged: Tensor

    def __init__(
        self,
        normalization: str = "none",
        apply_to: str = "raw",
        solver: str = "active_set",
        init: str = "uniform",
        endpoint_clip: float = 0.0,
        max_iter: int = 250,
        tol: float = 1e-12,
    ) -> None:
        super().__init__()
        check_choice("normalization", normalization, NORMALIZATIONS)
        check_choice("apply_to", apply_to, ("raw", "normalized"))
        check_choice("solver", solver, SOLVERS)
        check_choice("init", init, ("uniform", "best_pair"))
        check_non_negative("endpoint_clip", endpoint_clip)
        if endpoint_clip >= 0.5:
            raise ConfigError(
                f"Parameter `endpoint_clip` should be in [0, 0.5). Found `endpoint_clip = {endpoint_clip}`."
            )
        for name, value, default, user in (
            ("init", init, "uniform", ("frank_wolfe", "projected_gradient")),
            ("endpoint_clip", endpoint_clip, 0.0, ("projected_gradient",)),
        ):
            if value != default and solver not in user:
                raise ConfigError(
                    f"`{name} = {value}` has no effect with `solver = {solver}`; it belongs to {' and '.join(user)}."
                )
        check_count("max_iter", max_iter)
        check_positive("tol", tol)
        self.normalization = normalization
        self.apply_to = apply_to
        self._solve = {
            "active_set": partial(active_set, tol=tol, max_iter=max_iter),
            "frank_wolfe": partial(frank_wolfe, tol=tol, max_iter=max_iter, init=init),
            "projected_gradient": partial(
                projected_gradient, tol=tol, max_iter=max_iter, init=init, endpoint_clip=endpoint_clip
            ),
        }[solver]
        self.register_buffer("unconverged", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The min-norm weights."""
        if self.normalization == "none":
            scales = torch.ones_like(losses)
            solution: Solution = self._solve(gramian)
        else:
            scales = self._scales(gramian, losses)
            solution = self._solve(gramian / torch.outer(scales, scales))
        if not solution.converged:
            self.unconverged += 1
        self.diagnostics = {
            "solver_iterations": float(solution.iterations),
            "duality_gap": solution.gap,
            "unconverged_total": float(self.unconverged),
        }
        return solution.weights if self.apply_to == "raw" else solution.weights / scales

    def _scales(self, gramian: Tensor, losses: Tensor) -> Tensor:
        scales = torch.ones_like(losses)
        if self.normalization.startswith("loss"):
            if (losses <= 0).any():
                raise NonFiniteError(
                    f"`normalization = {self.normalization}` divides by the losses, which have to be > 0. Found losses "
                    f"{losses.tolist()}. Use `normalization = l2` or `none`."
                )
            scales = scales * losses
        if self.normalization in ("l2", "loss+"):
            norms = gramian.diagonal().clamp_min(0).sqrt()
            scales = scales * torch.where(norms > 0, norms, 1.0)
        return scales
