"""GradNorm."""

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from mtl.aggregation.base import GramianWeighting
from mtl.errors import NonFiniteError
from mtl.validation import check_choice, check_non_negative, check_positive

RULES = ("adam", "sgd")


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
        minimum: Lower limit of a weight before renormalisation, > 0.

    Strategy options that belong to it: `level: last_layer` and `head_gradients: weighted` (the paper trains the
    weighted loss, heads included).

    Source: Chen, Badrinarayanan, Lee and Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss Balancing
    in Deep Multitask Networks", ICML 2018, arXiv:1711.02257, eq. 1-2 and Algorithm 1.

    **Deviations.** Paper: "standard update rules" for w; no lower limit. LibMTL: softmax-parametrised weights, all
    shared parameters, weights not applied to heads, reference loss of epoch 0, weight decay on w. SamsungLabs: adds
    weighted to unweighted gradients. AITSO_MTL (Pascal et al. 2021): w in the main Adam. Ours: the paper, Adam for w,
    reference losses of the first step, a limit that keeps weights positive; how often it acted is counted.
    """

    initial: Tensor
    clamped: Tensor

    def __init__(self, alpha: float = 1.5, lr: float = 0.025, rule: str = "adam", minimum: float = 1e-3) -> None:
        super().__init__()
        check_non_negative("alpha", alpha)
        check_positive("lr", lr)
        check_choice("rule", rule, RULES)
        check_positive("minimum", minimum)
        self.alpha = alpha
        self.lr = lr
        self.rule = rule
        self.minimum = minimum

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Weights 1, no reference losses yet."""
        self.weights = torch.nn.Parameter(torch.ones(num_tasks, dtype=torch.float64))
        self.register_buffer("initial", torch.full((num_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("clamped", torch.zeros((), dtype=torch.int64))
        kind = Adam if self.rule == "adam" else SGD
        self.optimizer: Optimizer = kind([self.weights], lr=self.lr)

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights of this step; those of the next are prepared."""
        m = len(gramian)
        if torch.isnan(self.initial).any():
            if (losses <= 0).any():
                raise NonFiniteError(
                    f"GradNorm divides by the losses of the first step, which have to be > 0. Found {losses.tolist()}."
                )
            self.initial.copy_(losses)
        used = self.weights.detach().clone()
        norms = gramian.diagonal().clamp_min(0).sqrt()
        progress = losses / self.initial
        rate = (progress / progress.mean()).clamp_min(0)
        weighted = used * norms
        target = weighted.mean() * rate**self.alpha
        self.weights.grad = torch.sign(weighted - target) * norms
        self.optimizer.step()
        self.weights.grad = None
        with torch.no_grad():
            low = self.weights < self.minimum
            self.clamped += low.sum()
            self.weights.clamp_(min=self.minimum)
            self.weights.mul_(m / self.weights.sum())
        self.diagnostics = {
            "gradnorm_loss": (weighted - target).abs().sum().item(),
            "clamped_total": float(self.clamped),
        }
        return used

    def get_extra_state(self) -> dict[str, object]:
        """The state of the optimizer of w."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Continue from `get_extra_state`."""
        self.optimizer.load_state_dict(state)
