"""Gradient Vaccine."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.validation import check_choice, check_fraction


class GradVac(GramianWeighting):
    r"""Gradient Vaccine (Wang et al. 2021, arXiv:2010.05874, Algorithm 1), in coefficients.

    For each task i, start from :math:`g_i' = g_i` and go through the other tasks j in random order. Where the cosine
    :math:`\phi = \cos(g_i', g_j)` is below its running average :math:`\hat\phi_{ij}`, raise it to that:

    .. math:: g_i' \leftarrow g_i' + \frac{\lVert g_i'\rVert (\hat\phi \sqrt{1 - \phi^2} - \phi \sqrt{1 - \hat\phi^2})}
        {\lVert g_j\rVert \sqrt{1 - \hat\phi^2}}\, g_j

    and in either case :math:`\hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta \phi`, from 0. Sum the results.
    Only coefficients C (m, m) and the products C G are tracked. With :math:`\hat\phi = 0` it is PCGrad.

    Args:
        beta: Weight of the new cosine, in [0, 1]. 0.01 in the paper; LibMTL and TorchJD 0.5.
        update: The average takes in `every` pair (paper) or only those below it (`violation`, SamsungLabs).
        reduce: `sum` (paper) or `mean` over tasks.

    Source: Wang, Tsvetkov, Firat and Cao, "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
    Massively Multilingual Models", ICLR 2021, arXiv:2010.05874, Algorithm 1.

    **Deviations.** Paper: a network part at a time (its best: encoder and decoder layers). LibMTL and TorchJD: 1e-8 in
    the denominators. SamsungLabs: `violation`, and no gradient is ever set. Ours: all shared parameters at once, orders
    from the strategy's generator; a pair with an exactly zero vector, or an average of exactly 1, is passed over, the
    latter counted in `skipped_total`.
    """

    average: Tensor
    skipped: Tensor

    def __init__(self, beta: float = 0.01, update: str = "every", reduce: str = "sum") -> None:
        super().__init__()
        check_fraction("beta", beta)
        check_choice("update", update, ("every", "violation"))
        check_choice("reduce", reduce, ("sum", "mean"))
        self.beta = beta
        self.update = update
        self.reduce = reduce
        self.generator: torch.Generator | None = None

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Running averages 0."""
        self.generator = generator
        self.register_buffer("average", torch.zeros(num_tasks, num_tasks, dtype=torch.float64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Column sums of the coefficients."""
        m = len(gramian)
        orders = torch.stack([torch.randperm(m, generator=self.generator) for _ in range(m)])
        weights, raised = self.vaccinate(gramian, orders)
        self.diagnostics = {"raised": float(raised), "skipped_total": float(self.skipped)}
        return weights if self.reduce == "sum" else weights / m

    def vaccinate(self, gramian: Tensor, orders: Tensor) -> tuple[Tensor, int]:
        """Weights of the sum for given orders; moves the averages.

        Args:
            gramian: G (m, m).
            orders: (m, m) integers; row i is the order in which task i meets the tasks (itself is passed over).

        Returns:
            Weights (m,), and the number of times a cosine was raised.
        """
        m = len(gramian)
        tasks = torch.arange(m)
        norms = gramian.diagonal().clamp_min(0).sqrt()
        coefficients = torch.eye(m, dtype=gramian.dtype)
        products = gramian.clone()  # C G
        # Every pair meets once, so what belongs to it is looked up and written back once: column t is the t-th meeting.
        targets = self.average.gather(1, orders)
        target_sines = (1 - targets**2).clamp_min(0).sqrt()
        cosines, other_norms = torch.zeros_like(targets), norms[orders]
        meets = (orders != tasks[:, None]) & (other_norms > 0)
        defined, below = torch.zeros_like(meets), torch.zeros_like(meets)
        raised = 0
        for t, other in enumerate(orders.T):
            target, target_sine, norm = targets[:, t], target_sines[:, t], other_norms[:, t]
            lengths = (products * coefficients).sum(1).clamp_min(0).sqrt()
            defined[:, t] = meets[:, t] & (lengths > 0)
            cosine = products.gather(1, other[:, None])[:, 0] / (lengths * norm)
            cosine = torch.where(defined[:, t], cosine, 0.0).clamp(-1, 1)
            cosines[:, t] = cosine
            below[:, t] = defined[:, t] & (cosine < target)
            active = below[:, t] & (target_sine > 0)
            if not active.any():
                continue
            raised += int(active.sum())
            sine = (1 - cosine**2).sqrt()
            amount = lengths * (target * sine - cosine * target_sine) / (norm * target_sine)
            amount = torch.where(active, amount, 0.0)[:, None]
            coefficients.scatter_add_(1, other[:, None], amount)
            products += amount * gramian[other]
        self.skipped += (below & (target_sines == 0)).sum()
        seen = defined if self.update == "every" else below
        moved = torch.where(seen, targets + self.beta * (cosines - targets), targets)
        self.average.scatter_(1, orders, moved)
        return coefficients.sum(0), raised
