"""Smooth Tchebycheff scalarization."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.validation import check_choice, check_count, check_number, check_positive
from mtl.weighting.base import Scalarization, check_all, match_tasks, require_losses


class STCH(Scalarization):
    r"""Smooth Tchebycheff scalarization (STCH; Lin et al. 2024, arXiv:2402.19078).

    .. math:: c\,\mu \log \sum_k \exp\big(\lambda_k (x_k - z_k) / \mu\big), \qquad
        w_k = c\,\lambda_k\,\mathrm{softmax}_k\big(\lambda (x - z) / \mu\big)\, \frac{d x_k}{d L_k}

    where:

    - :math:`x_k = \log(L_k / n_k)` with the reference loss :math:`n_k` (transform `log`), or :math:`L_k` (`none`);
    - :math:`\lambda_k` is the preference and :math:`z_k` the ideal value of task k;
    - c is 1 or m.

    With transform `log`, n is the task's mean loss over one epoch, the one after `warmup_epochs` others. Until its end
    :math:`\sum_k \log L_k` is trained. It takes `warmup_epochs` + 1 epochs until the method itself begins.

    Args:
        mu: Smoothing, > 0; smaller is closer to the maximum.
        transform: `log` (released code; losses > 0), or `none` (the paper's equation on the losses, without warm-up).
        warmup_epochs: >= 0; epochs before the one whose losses are averaged.
        preference: lambda: one number for all tasks, a list in task order, or a mapping. Each > 0.
        ideal: z, on the scale of x: one number, a list or a mapping.
        scale: c: `num_tasks` (released code), or `one` (paper).

    Raises NonFiniteError for a loss <= 0 with transform `log`.

    Source: Lin, Zhang, Yang, Liu, Wang and Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
    ICML 2024, arXiv:2402.19078.

    **Deviations.** Paper: transform `none`, lambda on the simplex, c = 1. Released code, in LibMTL: transform `log`,
    the mean losses of one epoch called nadir, lambda = 1, z = 0, c = m, 1e-20 inside the logarithm; logs weights of 1.
    TorchJD: the paper's equation. Ours: the released code by default, an error instead of the 1e-20. The maximum is
    taken out before the division by mu, so that no exponential overflows.
    """

    reference: Tensor
    sums: Tensor
    preferences: Tensor
    ideals: Tensor

    def __init__(
        self,
        mu: float = 1.0,
        transform: str = "log",
        warmup_epochs: int = 4,
        preference: float | Sequence[float] | Mapping[str, float] = 1.0,
        ideal: float | Sequence[float] | Mapping[str, float] = 0.0,
        scale: str = "num_tasks",
    ) -> None:
        super().__init__()
        check_positive("mu", mu)
        check_choice("transform", transform, ("log", "none"))
        check_count("warmup_epochs", warmup_epochs, minimum=0)
        check_all("preference", preference, check_positive)
        check_all("ideal", ideal, check_number)
        check_choice("scale", scale, ("num_tasks", "one"))
        self.mu = mu
        self.transform = transform
        self.warmup_epochs = warmup_epochs
        self.preference = preference
        self.ideal = ideal
        self.scale = scale
        self.register_buffer("preferences", torch.empty(0), persistent=False)
        self.register_buffer("ideals", torch.empty(0), persistent=False)

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """Match the options with the tasks; no reference losses yet."""
        self.tasks = tasks
        self.preferences = torch.tensor(match_tasks("preference", self.preference, tasks, check_positive))
        self.ideals = torch.tensor(match_tasks("ideal", self.ideal, tasks, check_number))
        self.register_buffer("sums", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("reference", torch.ones(len(tasks), dtype=torch.float64))
        self.steps = 0  # in the epoch that is averaged
        self.epochs = 0

    @property
    def warming_up(self) -> bool:
        """Whether the reference losses are still unknown."""
        return self.transform == "log" and self.epochs <= self.warmup_epochs

    def forward(self, losses: Tensor) -> Tensor:
        """The scalar of the equation above; during warm-up, the sum of logarithms."""
        values = losses
        if self.transform == "log":
            require_losses(losses > 0, losses, self.tasks, "STCH with `transform: log`", "> 0")
            values = torch.log(losses) - torch.log(self.reference).to(losses)
            if self.warming_up:
                return values.sum()
        exponents = self.preferences.to(losses) * (values - self.ideals.to(losses))
        top = exponents.detach().max()
        smooth = self.mu * torch.logsumexp((exponents - top) / self.mu, dim=0) + top
        return smooth * (len(losses) if self.scale == "num_tasks" else 1)

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights; in the last epoch of warm-up the losses enter the reference."""
        weights = super().weigh(losses)
        if self.warming_up and self.epochs == self.warmup_epochs:
            self.sums += losses
            self.steps += 1
        return weights

    def end_epoch(self) -> None:
        """Count the epoch; close the average."""
        if self.steps > 0 and self.epochs == self.warmup_epochs:
            self.reference = self.sums / self.steps
        self.epochs += 1

    def get_extra_state(self) -> dict[str, int]:
        """The counters."""
        return {"steps": self.steps, "epochs": self.epochs}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Continue from `get_extra_state`."""
        self.steps, self.epochs = state["steps"], state["epochs"]
