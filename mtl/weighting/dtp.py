"""Dynamic task prioritization."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.errors import ConfigError
from mtl.validation import check_choice, check_fraction, check_non_negative
from mtl.weighting.base import LossWeighting, check_all, match_tasks, require_losses

KPIS = ("exp_loss", "exp_ratio")


class DTP(LossWeighting):
    r"""Dynamic task prioritization (DTP; Guo et al. 2018, ECCV), its weights of tasks.

    .. math:: w_k = -(1 - \bar\kappa_k)^{\gamma_k} \log \bar\kappa_k, \qquad
        \bar\kappa_k(t) = \alpha\,\kappa_k(t) + (1 - \alpha)\,\bar\kappa_k(t-1)

    where :math:`\kappa_k \in (0, 1]` says how well task k does (its key performance indicator, KPI): a hard task gets
    a large weight. The weights are constants of the step; they have no fixed sum, and are 0 for a perfect task.

    Args:
        kpi: `exp_loss`, exp(-L): for a cross-entropy, the geometric mean of the true classes' probabilities; depends on
            the scale of other losses. `exp_ratio`, exp(-L / L(0)) with the loss of the first step: free of scale.
        alpha: Weight of the new value, in (0, 1].
        gamma: Focus, >= 0: one number for all tasks, a list in task order, or a mapping. 0 is -log of the KPI.
        minimum: Lower limit of the average KPI inside the logarithm, in (0, 1]; keeps weights finite. How often it
            acted is counted.

    Raises NonFiniteError for a loss < 0, and for a first loss of 0 with `exp_ratio`.

    Source: Guo, Haque, Huang, Yeung and Fei-Fei, "Dynamic Task Prioritization for Multitask Learning", ECCV 2018.

    **Deviations.** Paper: the KPI is a metric such as accuracy or average precision; also a focal loss within
    each task, and a network whose depth follows the task order. Released code: none. Ours: the equations above are the
    paper's; a weighting sees loss values only, so **both KPIs are ours** and results have to be labelled "DTP (loss
    KPI)". The average starts at the first value. The focal loss belongs to the task, the network to the backbone.
    The paper's alpha and gamma were not available to us; 0.1 and 2 (focal loss, Lin et al. 2017) are our defaults.
    """

    average: Tensor
    initial: Tensor
    limited: Tensor
    gammas: Tensor

    def __init__(
        self,
        kpi: str = "exp_loss",
        alpha: float = 0.1,
        gamma: float | Sequence[float] | Mapping[str, float] = 2.0,
        minimum: float = 1e-6,
    ) -> None:
        super().__init__()
        check_choice("kpi", kpi, KPIS)
        for name, value in (("alpha", alpha), ("minimum", minimum)):
            check_fraction(name, value)
            if value == 0:
                raise ConfigError(f"Parameter `{name}` should be a number in (0, 1]. Found `{name} = {value}`.")
        check_all("gamma", gamma, check_non_negative)
        self.kpi = kpi
        self.alpha = alpha
        self.gamma = gamma
        self.minimum = minimum
        self.register_buffer("gammas", torch.empty(0), persistent=False)

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """No history yet."""
        self.tasks = tasks
        self.gammas = torch.tensor(match_tasks("gamma", self.gamma, tasks), dtype=torch.float64)
        for name in ("average", "initial"):
            self.register_buffer(name, torch.full((len(tasks),), torch.nan, dtype=torch.float64))
        self.register_buffer("limited", torch.zeros((), dtype=torch.int64))
        self.started = False

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights from the average that includes these losses."""
        values = losses.to(torch.float64)
        require_losses(losses >= 0, losses, self.tasks, "DTP", ">= 0")
        if not self.started:
            if self.kpi == "exp_ratio":
                require_losses(losses > 0, losses, self.tasks, "DTP with `kpi: exp_ratio`", "> 0 in the first step")
            self.initial = values.clone()
        kappa = torch.exp(-values / self.initial if self.kpi == "exp_ratio" else -values)
        self.average = self.alpha * kappa + (1 - self.alpha) * self.average if self.started else kappa
        self.started = True
        self.limited += (self.average < self.minimum).sum()
        kappa = self.average.clamp(min=self.minimum, max=1.0)
        self.diagnostics = {"kpi_limited_total": float(self.limited)}
        return (-((1 - kappa) ** self.gammas) * torch.log(kappa)).to(losses)

    def get_extra_state(self) -> dict[str, bool]:
        """Whether there is a history."""
        return {"started": self.started}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """Continue from `get_extra_state`."""
        self.started = state["started"]
