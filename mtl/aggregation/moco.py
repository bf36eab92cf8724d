"""Multi-objective gradient correction."""

import torch
from torch import Tensor

from mtl.aggregation.base import Aggregator, Combination, TaskGradients
from mtl.aggregation.solvers.simplex import project_to_simplex
from mtl.errors import NonFiniteError
from mtl.numerics import gramian
from mtl.validation import check_choice, check_fraction, check_non_negative

PROJECTIONS = ("simplex", "softmax")
NORMALIZATIONS = ("none", "l2", "loss", "loss+", "incoming")


class MoCo(Aggregator):
    r"""Multi-objective gradient correction (MoCo; Fernando et al. 2023, openreview dLAYGdKTi2).

    Rows Y (m, n) track the task gradients; the task weights make one projected step per iteration towards the
    min-norm combination of the tracked ones:

    .. math:: y_k \leftarrow y_k - \beta_t (y_k - g_k), \qquad
        \lambda \leftarrow \Pi\big(\lambda - \gamma_t (\bar Y \bar Y^\top + \rho I) \lambda\big), \qquad
        d = \bar Y^\top \lambda

    from Y = 0 and :math:`\lambda = 1/m`, with :math:`\beta_t = \beta / t^{\sigma_\beta}`,
    :math:`\gamma_t = \gamma / t^{\sigma_\gamma}` at step t = 1, 2, ... and :math:`\bar Y` the rows of Y after a
    normalization. d is no weighted sum of this step's gradients; :math:`\lambda` is in the diagnostics.

    Args:
        beta: Step of the tracking, in [0, 1]. 0.1 in the author's code, 0.5 in LibMTL.
        beta_sigma: Its decay, >= 0. 0 in the author's code, 0.5 in LibMTL.
        gamma: Step of the weights, >= 0. 0.1 in both.
        gamma_sigma: Its decay, >= 0. 0 in the author's code, 0.5 in LibMTL.
        rho: Regularization, >= 0. 0.1 in the author's code, 0 in LibMTL.
        projection: Euclidean projection on the `simplex` (author's code), or `softmax` of the point (LibMTL).
        normalization: Divides the tracked rows by nothing (`none`), their norms (`l2`), the losses (`loss`) or the
            product (`loss+`), as the author's code; `incoming` (LibMTL) replaces g by L g / |g| before it is tracked.

    Memory: a second (m, n) next to the task gradients. The weights sum to 1, which is 1/m of the step of `uniform`.

    Source: Fernando, Shen, Liu, Chaudhury, Murugesan and Chen, "Mitigating Gradient Bias in Multi-objective Learning: A
    Provably Convergent Approach", ICLR 2023, arXiv:2210.12624.

    **Deviations.** Paper: its text was not verified; TorchJD's reviewers find LibMTL's normalization different from it
    (pull request 676, open). Released code (heshandevaka/Trade-Off-MOL, by the author): as above, with the defaults
    here. LibMTL (from code the author shared, as it says): softmax in place of the projection, incoming gradients
    normalised, and both steps decay. Softmax of the weights themselves is no multiplicative update: it draws them to
    1/m at every step. Ours: the author's defaults; a row of zeros stays one instead of becoming NaN.
    """

    levels = ("parameters",)
    gives_weights = False
    steps: Tensor
    weights: Tensor
    tracked: Tensor

    def __init__(
        self,
        beta: float = 0.1,
        beta_sigma: float = 0.0,
        gamma: float = 0.1,
        gamma_sigma: float = 0.0,
        rho: float = 0.1,
        projection: str = "simplex",
        normalization: str = "none",
    ) -> None:
        super().__init__()
        check_fraction("beta", beta)
        for name, value in (
            ("beta_sigma", beta_sigma),
            ("gamma", gamma),
            ("gamma_sigma", gamma_sigma),
            ("rho", rho),
        ):
            check_non_negative(name, value)
        check_choice("projection", projection, PROJECTIONS)
        check_choice("normalization", normalization, NORMALIZATIONS)
        self.beta, self.beta_sigma = beta, beta_sigma
        self.gamma, self.gamma_sigma = gamma, gamma_sigma
        self.rho = rho
        self.projection = projection
        self.normalization = normalization

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Equal weights."""
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def allocate(self, rows: Tensor) -> None:
        """Tracked gradients 0."""
        self.register_buffer("tracked", torch.zeros_like(rows))

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Track, move the weights, combine the tracked gradients."""
        self.steps += 1
        t = self.steps.item()
        self._track(gradients, self.beta / t**self.beta_sigma)
        products = gramian(self.tracked)
        factors = self._factors(products.diagonal(), gradients.losses)
        pull = torch.outer(factors, factors) * products @ self.weights + self.rho * self.weights
        point = self.weights - self.gamma / t**self.gamma_sigma * pull
        self.weights.copy_(project_to_simplex(point) if self.projection == "simplex" else torch.softmax(point, 0))
        self.diagnostics = {f"lambda_{k}": weight for k, weight in enumerate(self.weights.tolist())}
        return Combination(direction=torch.mv(self.tracked.T, (self.weights * factors).to(self.tracked)))

    def _track(self, gradients: TaskGradients, beta: float) -> None:
        rows = gradients.rows
        self.tracked.mul_(1 - beta)
        if self.normalization != "incoming":
            self.tracked.add_(rows, alpha=beta)
            return
        scales = beta * gradients.losses * inverse(gradients.gramian.diagonal().clamp_min(0).sqrt())
        self.tracked.addcmul_(rows, scales.to(rows)[:, None])

    def _factors(self, squares: Tensor, losses: Tensor) -> Tensor:
        """1 / n_k (m,) of the normalization; 0 for a row of zeros."""
        factors = torch.ones_like(losses)
        if self.normalization in ("loss", "loss+"):
            if (losses <= 0).any():
                raise NonFiniteError(
                    f"`normalization = {self.normalization}` divides by the losses, which have to be > 0. Found losses "
                    f"{losses.tolist()}. Use `normalization = l2` or `none`."
                )
            factors = factors / losses
        if self.normalization in ("l2", "loss+"):
            factors = factors * inverse(squares.clamp_min(0).sqrt())
        return factors


def inverse(norms: Tensor) -> Tensor:
    """1 / norms, and 0 for 0."""
    return torch.where(norms > 0, 1 / norms, 0.0)
