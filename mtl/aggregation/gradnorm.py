"""GradNorm."""

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from mtl.aggregation.base import GramianWeighting
from mtl.errors import NonFiniteError
from mtl.validation import check_choice, check_non_negative, check_positive

RULES = ("adam", "sgd")
PARAMETRIZATIONS = ("renormalized", "softmax")
REFERENCES = ("first_step", "first_epoch")


class GradNorm(GramianWeighting):
    r"""GradNorm (Chen et al. 2018, arXiv:1711.02257, eq. 1-2 and Algorithm 1).

    With :math:`G_k = w_k \lVert\nabla_W L_k\rVert` over the weights W of the last shared layer, and the relative
    inverse training rate :math:`r_k = \tilde L_k / \overline{\tilde L}`, :math:`\tilde L_k = L_k / L_k(0)`:

    .. math:: L_{grad}(w) = \sum_k \lvert G_k - \bar G\, r_k^\alpha \rvert

    where the target :math:`\bar G r_k^\alpha` is a constant. A step uses the current w; then w takes one step on
    L_grad and is renormalised to sum to m. The derivative is sign(G_k - target) times the norm, known without a
    second backward pass.

    Args:
        alpha: Strength of the pull towards equal training rates, >= 0. 1.5 on NYUv2 and 0.12 on the synthetic tasks
            in the paper; Pascal et al. 2021 use 1.5 and 0.2.
        lr: Learning rate of w, > 0; 0.025 in the paper.
        rule: Optimizer of w, `adam` or `sgd`; without weight decay in either case.
        minimum: Lower limit of a weight before renormalisation, > 0; of `renormalized` only.
        parametrization: `renormalized` (paper): w itself is trained, then scaled to sum to m. `softmax` (LibMTL):
            w = m softmax(xi), and xi is trained, by the derivative above through the softmax.
        reference: L_k(0) is the loss of the `first_step` (paper), or the mean over the `first_epoch` (LibMTL), in which
            the weights stay 1. The mean is over the steps that measure gradients (`weights_every`).

    Strategy options that belong to it: `level: last_layer` (paper; LibMTL: `parameters`) and `head_gradients: weighted`
    (the paper trains the weighted loss, heads included; LibMTL: `own`).

    Source: Chen, Badrinarayanan, Lee and Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss Balancing
    in Deep Multitask Networks", ICML 2018, arXiv:1711.02257, eq. 1-2 and Algorithm 1.

    **Deviations.** Paper: "standard update rules" for w; no lower limit. LibMTL: softmax-parametrised weights, all
    shared parameters, weights not applied to heads, reference loss of epoch 0: four options here; xi in the main
    optimizer, with its learning rate and weight decay. SamsungLabs: adds
    weighted to unweighted gradients. AITSO_MTL (Pascal et al. 2021): w in the main Adam. Ours: the paper, Adam for w,
    reference losses of the first step, a limit that keeps weights positive; how often it acted is counted.
    """

    initial: Tensor
    clamped: Tensor
    loss_sum: Tensor
    count: Tensor

    def __init__(
        self,
        alpha: float = 1.5,
        lr: float = 0.025,
        rule: str = "adam",
        minimum: float = 1e-3,
        parametrization: str = "renormalized",
        reference: str = "first_step",
    ) -> None:
        super().__init__()
        check_non_negative("alpha", alpha)
        check_positive("lr", lr)
        check_choice("rule", rule, RULES)
        check_positive("minimum", minimum)
        check_choice("parametrization", parametrization, PARAMETRIZATIONS)
        check_choice("reference", reference, REFERENCES)
        self.alpha = alpha
        self.lr = lr
        self.rule = rule
        self.minimum = minimum
        self.parametrization = parametrization
        self.reference = reference

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Weights 1, no reference losses yet."""
        start = 1.0 if self.parametrization == "renormalized" else 0.0
        self.raw = torch.nn.Parameter(torch.full((num_tasks,), start, dtype=torch.float64))
        self.register_buffer("loss_sum", torch.zeros(num_tasks, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("initial", torch.full((num_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("clamped", torch.zeros((), dtype=torch.int64))
        kind = Adam if self.rule == "adam" else SGD
        self.optimizer: Optimizer = kind([self.raw], lr=self.lr)

    @property
    def weights(self) -> Tensor:
        """W (m,) of the next step, without graph."""
        raw = self.raw.detach()
        return raw.clone() if self.parametrization == "renormalized" else len(raw) * torch.softmax(raw, dim=0)

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights of this step; those of the next are prepared."""
        used = self.weights
        if torch.isnan(self.initial).any():
            if self.reference == "first_epoch":
                self.loss_sum += losses
                self.count += 1
                return used
            self._start_from(losses)
        norms = gramian.diagonal().clamp_min(0).sqrt()
        progress = losses / self.initial
        rate = (progress / progress.mean()).clamp_min(0)
        weighted = used * norms
        target = weighted.mean() * rate**self.alpha
        self._move(torch.sign(weighted - target) * norms, used)
        self.diagnostics = {
            "gradnorm_loss": (weighted - target).abs().sum().item(),
            "clamped_total": float(self.clamped),
        }
        return used

    def _start_from(self, losses: Tensor) -> None:
        if (losses <= 0).any():
            raise NonFiniteError(
                f"GradNorm divides by the losses of the {self.reference.replace('_', ' ')}, which have to be > 0. "
                f"Found {losses.tolist()}."
            )
        self.initial.copy_(losses)

    @torch.no_grad()
    def _move(self, gradient: Tensor, weights: Tensor) -> None:
        """One step on L_grad, whose derivative by the weights is `gradient` (m,)."""
        m = len(weights)
        if self.parametrization == "softmax":
            gradient = weights * (gradient - gradient @ weights / m)
        self.raw.grad = gradient
        self.optimizer.step()
        self.raw.grad = None
        if self.parametrization == "renormalized":
            self.clamped += (self.raw < self.minimum).sum()
            self.raw.clamp_(min=self.minimum)
            self.raw.mul_(m / self.raw.sum())

    def end_epoch(self) -> None:
        """Take the mean of the first epoch as reference, if that is what is asked for."""
        if self.reference == "first_epoch" and self.count > 0 and torch.isnan(self.initial).any():
            self._start_from(self.loss_sum / self.count)

    def get_extra_state(self) -> dict[str, object]:
        """The state of the optimizer of w."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Continue from `get_extra_state`."""
        self.optimizer.load_state_dict(state)
