"""MOML."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.meta import MetaWeighting, through_softmax
from mtl.validation import check_choice


class MOML(MetaWeighting):
    r"""Multi-objective meta learning of task weights (Ye et al. 2021, "Multi-Objective Meta Learning", NeurIPS).

    .. math:: \min_\xi \big(L^{val}_1(\theta'(\xi)), \dots, L^{val}_m(\theta'(\xi))\big), \qquad
        \theta'(\xi) = \theta - \alpha \sum_k z_k \nabla L_k(\theta), \quad z = \mathrm{softmax}(\xi)

    The m held-out losses stay apart: their hypergradients :math:`h_t = \partial L^{val}_t / \partial \xi` (m,) are
    combined by another Gramian method, MGDA in the paper.

    Args:
        inner: Gramian of the hypergradients -> their weights, MGDA in the paper. `normalization: loss`, `apply_to: raw`
            in the released code; `l2`, `normalized` in LibMTL.
        lr: Learning rate of xi, > 0; 1e-4 in the released code, 1e-3 in LibMTL.
        rule: Optimizer of xi: `adam` (both) or `sgd`.
        total: The weights sum to `one` (both), hence 1/m of the step of a plain sum, or to `num_tasks`.

    Source: Ye, Lin, Yue, Guo, Xiao and Zhang, "Multi-Objective Meta Learning", NeurIPS 2021, arXiv:2102.07121.

    **Deviations.** Paper: full text not available to us; equations from the released code. Released code: the real step
    trains on the validation split too ("trainval"), the virtual one on the rest; differentiates through the virtual
    step with a second graph, which gives the same numbers as the inner products here; MGDA by projected gradient from
    the best pair, if asked for by `--MGDA` (its README does), else the sum. LibMTL: held-out and virtual batch are
    half-batches of the training set, virtual step size 0.1; the inner products of here. Ours: the validation split is
    never trained on, and the virtual step is on the batch that the real one is on.
    """

    def __init__(self, inner: GramianWeighting, lr: float = 1e-4, rule: str = "adam", total: str = "one") -> None:
        super().__init__(lr, rule)
        check_choice("total", total, ("one", "num_tasks"))
        self.inner = inner
        self.total = total

    def _initial(self, tasks: tuple[str, ...], generator: torch.Generator) -> Tensor:
        self.inner.setup(len(tasks), generator)
        return torch.zeros(len(tasks), dtype=torch.float64)

    def end_epoch(self) -> None:
        """Tell the inner method."""
        self.inner.end_epoch()

    def weights(self) -> Tensor:
        """Softmax of the raw weights."""
        factor = len(self.raw) if self.total == "num_tasks" else 1
        return factor * torch.softmax(self.raw.detach(), dim=0)

    def objectives(self) -> Tensor:
        """Every task's loss on its own."""
        return torch.eye(len(self.raw), dtype=torch.float64)

    def observe(self, hypergradients: Tensor, losses: Tensor) -> None:
        """One step along the combined hypergradient."""
        rows = through_softmax(hypergradients, self.weights())
        gramian = rows @ rows.T
        chosen = self.inner((gramian + gramian.T) / 2, losses).detach()
        self._move(chosen @ rows)
        self.diagnostics = {
            "held_out_loss": losses.sum().item(),
            **{f"inner_{name}": value for name, value in self.inner.diagnostics.items()},
        }
