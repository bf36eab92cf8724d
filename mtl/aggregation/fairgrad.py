"""FairGrad."""

from mtl.aggregation.bargaining import Bargaining
from mtl.validation import check_positive


class FairGrad(Bargaining):
    r"""Fair resource allocation (Ban and Ji 2024, arXiv:2402.15638, eq. 3-4 and Algorithm 1).

    The update with the largest alpha-fair sum of gains, :math:`\max_d \sum_k (g_k \cdot d)^{1-\alpha} / (1-\alpha)`, is
    :math:`d = J^\top a` up to its length, with

    .. math:: G a = a^{-1/\alpha}, \qquad a > 0

    (powers by element). alpha = 1 is Nash-MTL (proportional fairness); towards 0 it is the sum, towards infinity
    max-min fairness.

    Args:
        alpha: Fairness, > 0; chosen per data set. 1.0 is the default of the released class. Below 0.5, or far above 2
            with rows whose scales differ by 1e6, a solve may end unconverged, which is counted.
        max_norm: Limit of the norm of the update, >= 0; 0 is without limit. 1.0 in the released code.
        tol: Residual max_k |(G a)_k a_k^(1/alpha) - 1| that a solve has to meet beyond rounding, > 0.
        max_iter: Limit of Newton steps, at least 1.

    Source: Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, arXiv:2402.15638, eq. 3-4 and
    Algorithm 1.

    **Deviations.** Paper and released code: a constrained nonlinear least-squares problem (scipy `least_squares`,
    bounds from 0, from 1/m); 45 to 84 % off for alpha = 2 where rows differ by 1e6 in scale. Released code: clips as
    Nash-MTL's. LibMTL, TorchJD: without the limit. Ours: Newton's method in float64 on the strictly convex
    a^T G a / 2 - sum_k a_k^(1 - 1/alpha) / (1 - 1/alpha). Not defined elsewhere: a zero gradient gets weight 0,
    counted in `left_out_total`; where 0 is in the hull of the gradients, the weights sum to 1 with J^T a = 0, counted
    in `stationary_total`.
    """

    def __init__(self, alpha: float = 2.0, max_norm: float = 1.0, tol: float = 1e-6, max_iter: int = 200) -> None:
        check_positive("alpha", alpha)
        super().__init__(1 / alpha, max_norm, tol, max_iter)
