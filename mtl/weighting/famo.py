"""Fast adaptive multitask optimization."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from mtl.validation import check_choice, check_non_negative, check_number, check_positive
from mtl.weighting.base import LossWeighting, check_all, match_tasks, require_losses

RULES = ("adam", "sgd")


class FAMO(LossWeighting):
    r"""Fast adaptive multitask optimization (FAMO; Liu et al. 2023, arXiv:2306.03792, Algorithm 1).

    .. math:: w_k = c \frac{z_k}{D_k}, \quad z = \mathrm{softmax}(\xi), \quad D_k = L_k - b_k + \epsilon, \quad
        c = \Big(\sum_k \frac{z_k}{D_k}\Big)^{-1}

    and after the update, with the losses :math:`L'` of the same batch:

    .. math:: \delta = J^\top (\log D - \log D'), \quad J = \frac{\partial z}{\partial \xi}, \qquad
        \xi \leftarrow \xi - \beta (\delta + \gamma \xi)

    where :math:`b_k \le L_k` is the least value of the loss. A task whose loss fell faster than the others' gets less
    weight. :math:`J^\top d = z \odot (d - \langle z, d\rangle)`; no second backward pass is needed.

    Args:
        lr: beta, > 0; 0.025 in the paper.
        weight_decay: gamma, >= 0. It is part of the method: it pulls z towards uniform.
        rule: Optimizer of xi: `adam` (released code; gamma enters its gradient) or `sgd` (the equation above).
        min_losses: b: one number for all tasks, a list in task order, or a mapping.
        epsilon: > 0; keeps logarithm and quotient finite for L = b.
        total: What the weights sum to: `one` (paper), hence 1/m of the step of a plain sum, or `num_tasks`.

    Cost: one more forward a step. Clipping is the strategy's `max_grad_norm`.

    Raises NonFiniteError for a loss below b.

    Source: Liu, Feng, Stone and Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, arXiv:2306.03792,
    Algorithm 1.

    **Deviations.** Paper: the equations. Released code: Adam for xi; clips the shared gradient to norm 1; gamma is 0.01
    in famo.py (1e-5 in another version, as TorchJD's documentation says). LibMTL: gamma 0.001, no clipping; reports the
    second losses too. Both run the second forward with other dropout masks than the first and move BatchNorm statistics
    twice. Ours: Adam, gamma 0.001, no clipping; both forwards with the same masks, statistics moved once, and only the
    first losses reported.
    """

    needs_losses_after = True
    minima: Tensor
    before: Tensor

    def __init__(
        self,
        lr: float = 0.025,
        weight_decay: float = 1e-3,
        rule: str = "adam",
        min_losses: float | Sequence[float] | Mapping[str, float] = 0.0,
        epsilon: float = 1e-8,
        total: str = "one",
    ) -> None:
        super().__init__()
        check_positive("lr", lr)
        check_non_negative("weight_decay", weight_decay)
        check_choice("rule", rule, RULES)
        check_all("min_losses", min_losses, check_number)
        check_positive("epsilon", epsilon)
        check_choice("total", total, ("one", "num_tasks"))
        self.logit_lr = lr
        self.weight_decay = weight_decay
        self.rule = rule
        self.min_losses = min_losses
        self.epsilon = epsilon
        self.total = total
        self.register_buffer("minima", torch.empty(0), persistent=False)
        self.register_buffer("before", torch.empty(0), persistent=False)  # between the two calls of a step only

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Logits 0."""
        self.tasks = tasks
        self.minima = torch.tensor(match_tasks("min_losses", self.min_losses, tasks, check_number), dtype=torch.float64)
        self.logits = Parameter(torch.zeros(len(tasks), dtype=torch.float64))
        kind = Adam if self.rule == "adam" else SGD
        self.optimizer: Optimizer = kind([self.logits], lr=self.logit_lr, weight_decay=self.weight_decay)

    def trained_parameters(self) -> list[Parameter]:
        """None: the logits have an optimizer of their own."""
        return []

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights of this step; its losses are kept for `observe_after`."""
        self.before = self._excess(losses)
        raw = torch.softmax(self.logits.detach(), dim=0) / self.before
        return (raw / raw.sum() * (len(losses) if self.total == "num_tasks" else 1)).to(losses)

    @torch.no_grad()
    def observe_after(self, losses: Tensor) -> None:
        """Move the logits by the change of the log-losses."""
        change = torch.log(self.before) - torch.log(self._excess(losses))
        z = torch.softmax(self.logits, dim=0)
        self.logits.grad = z * (change - z @ change)
        self.optimizer.step()
        self.logits.grad = None

    def _excess(self, losses: Tensor) -> Tensor:
        """D (m,)."""
        excess = losses.to(torch.float64) - self.minima
        require_losses(excess >= 0, losses, self.tasks, "FAMO", ">= `min_losses`")
        return excess + self.epsilon

    def get_extra_state(self) -> dict[str, object]:
        """The state of the optimizer of the logits."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Continue from `get_extra_state`."""
        self.optimizer.load_state_dict(state)
