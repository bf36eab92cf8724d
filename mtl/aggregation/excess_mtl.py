"""Weights from excess risks."""

import torch
from torch import Tensor

from mtl.aggregation.base import Aggregator, Combination, TaskGradients
from mtl.validation import check_choice, check_count, check_non_negative

EPSILON = 1e-7
"""Under the root of the accumulated squares; the same in the released code, LibMTL and TorchJD."""


class ExcessMTL(Aggregator):
    r"""Excess risks (ExcessMTL; He et al. 2024, arXiv:2402.02009, eqs. 6, 7 and 9).

    A task's distance from its optimum is estimated with a diagonal Hessian from accumulated squares, compared with its
    start, and raises the task's weight by an exponentiated gradient step:

    .. math:: S_k \leftarrow S_k + g_k^2, \qquad e_k = \sum_j \frac{g_{kj}^2}{\sqrt{S_{kj} + 10^{-7}}}, \qquad
        w_k \propto w_k \exp\big(\eta\, e_k / e_k^{(0)}\big)

    where :math:`e_k^{(0)}` is the mean of :math:`e_k` over the warm-up, in which the weights are equal.

    Args:
        lr: :math:`\eta`, > 0 or 0 for equal weights. 0.01 in the released code and LibMTL, 1 in TorchJD.
        warmup_steps: At least 1: the first step alone (released code, LibMTL). Three epochs in the paper's Appendix
            C.1, as TorchJD's documentation says.
        total: What the weights sum to: `num_tasks` (released code) or `one`.

    Strategy options that belong to it: `level: parameters`; `head_gradients: weighted`, as the weighted sum of losses
    is what the released code trains. Memory: a second (m, n) next to the task gradients.

    Source: He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi and Zhao, "Robust Multi-Task Learning with Excess Risks", ICML
    2024, arXiv:2402.02009, eqs. 6, 7 and 9.

    **Deviations.** Paper: its text was not verified; equation numbers are TorchJD's, whose documentation says that its
    weights begin at 1/m and stay on the simplex (`total: one`). Released code (yifei-he/ExcessMTL) and LibMTL: weights
    begin at 1, the first step sets the start and moves nothing. TorchJD: weights begin at 1/m, and the first step after
    the warm-up moves them (without a warm-up by the undivided excess). With representation gradients LibMTL gets NaN:
    other levels are refused here. Ours: the logarithms of the weights are kept; a task whose excess was 0 in all the
    warm-up takes its start from its first excess > 0 (elsewhere inf or NaN).
    """

    levels = ("parameters",)
    steps: Tensor
    log_weights: Tensor
    start: Tensor
    squares: Tensor

    def __init__(self, lr: float = 0.01, warmup_steps: int = 1, total: str = "num_tasks") -> None:
        super().__init__()
        check_non_negative("lr", lr)
        check_count("warmup_steps", warmup_steps)
        check_choice("total", total, ("num_tasks", "one"))
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.total = total

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Equal weights."""
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name in ("log_weights", "start"):
            self.register_buffer(name, torch.zeros(num_tasks, dtype=torch.float64))

    def allocate(self, rows: Tensor) -> None:
        """Accumulated squares 0."""
        self.register_buffer("squares", torch.zeros_like(rows))

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Measure the excess; move the weights after the warm-up."""
        self.steps += 1
        excess = self._measure(gradients.rows)
        if self.steps <= self.warmup_steps:
            self.start += excess / self.warmup_steps
        else:
            self.start.copy_(torch.where(self.start > 0, self.start, excess))
            ratios = torch.where(self.start > 0, excess / self.start, 0.0)
            self.log_weights += self.lr * ratios
            self.log_weights -= self.log_weights.max()
        weights = torch.softmax(self.log_weights, dim=0)
        self.diagnostics = {f"excess_{k}": value for k, value in enumerate(excess.tolist())}
        return Combination(weights=weights * (len(weights) if self.total == "num_tasks" else 1))

    def _measure(self, rows: Tensor) -> Tensor:
        """The excess (m,), one task at a time: no temporary of size m n."""
        self.squares.addcmul_(rows, rows)
        excess = [((g * g) / (total + EPSILON).sqrt()).sum() for g, total in zip(rows, self.squares, strict=True)]
        return torch.stack(excess).to("cpu", torch.float64)
