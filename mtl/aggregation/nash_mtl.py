"""Nash-MTL."""

from mtl.aggregation.bargaining import Bargaining


class NashMTL(Bargaining):
    r"""Multi-task learning as a bargaining game (Navon et al. 2022, arXiv:2202.01017, Claim 3.1 and Algorithm 1).

    The update with the largest product of the tasks' gains, :math:`\max_d \sum_k \log(g_k \cdot d)`, is
    :math:`d = J^\top a` with

    .. math:: G a = 1 / a, \qquad a > 0

    (division by element). Scaling a task's gradient scales its weight inversely: d does not change.

    Args:
        max_norm: Limit of the norm of the update J^T a, >= 0; 0 is without limit. 1.0 in the released code, after the
            backward pass and on shared parameters only. The exact solution has norm sqrt(m), so any limit up to
            sqrt(m) *is* the norm of every update.
        tol: Residual max_k |a_k (G a)_k - 1| that a solve has to meet beyond rounding, > 0.
        max_iter: Limit of Newton steps, at least 1.

    Strategy options that belong to it: `weights_every` (the paper's update_weights_every), `head_gradients: own` or
    `weighted` (released code, there by the weights before `max_norm`).

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya, "Multi-Task Learning as a Bargaining Game",
    ICML 2022, arXiv:2202.01017, Claim 3.1 and Algorithm 1.

    **Deviations.** Paper: a sequence of convex problems (CCP). Released code: the same with ECOS, one iterate late,
    started from the last step's weights; where ECOS is missing or fails, equal or old weights without a word. TorchJD:
    an adaptation of it. Ours: Newton's method in float64 on the strictly convex a^T G a / 2 - sum log a, no state. Not
    defined elsewhere: a zero gradient gets weight 0 and the others bargain without it, counted in `left_out_total`;
    where 0 is in the hull of the gradients (Pareto-stationary: no solution), the weights sum to 1 with J^T a = 0,
    counted in `stationary_total`.
    """

    def __init__(self, max_norm: float = 1.0, tol: float = 1e-6, max_iter: int = 200) -> None:
        super().__init__(1.0, max_norm, tol, max_iter)
