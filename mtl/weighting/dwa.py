"""Dynamic weight average."""

import torch
from torch import Tensor

from mtl.validation import check_choice, check_count, check_positive
from mtl.weighting.base import LossWeighting


class DWA(LossWeighting):
    r"""Dynamic weight average (Liu, Johns and Davison 2019, arXiv:1803.10704, eq. 7).

    .. math:: w_k(t) = m \, \mathrm{softmax}_k(r(t-1) / T), \quad r_k(t-1) = L_k(t-1) / L_k(t-2)

    where :math:`L_k(t)` is the mean loss of task k over window t. Weights are 1 in the first two windows.

    Args:
        temperature: T > 0; 2 in the paper. Larger is more uniform.
        window: `epoch` (paper), or `steps` for windows of `window_steps` steps.
        window_steps: Length of a window for `window = steps`; 25 in nash-mtl and its descendants.

    **Deviations.** Paper: epochs, weights sum to m. nash-mtl, FAMO: windows of 25 iterations. Ours: the paper.
    """

    sums: Tensor
    averages: Tensor
    counts: Tensor

    def __init__(self, temperature: float = 2.0, window: str = "epoch", window_steps: int = 25) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_choice("window", window, ("epoch", "steps"))
        check_count("window_steps", window_steps)
        self.temperature = temperature
        self.window = window
        self.window_steps = window_steps

    def setup(self, tasks: tuple[str, ...], kinds: tuple[str, ...], generator: torch.Generator) -> None:  # noqa: ARG002
        """An empty history for m tasks."""
        m = len(tasks)
        self.register_buffer("sums", torch.zeros(m, dtype=torch.float64))
        self.register_buffer("averages", torch.zeros(2, m, dtype=torch.float64))  # of windows t-2, t-1
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # steps in this window, windows seen

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights of the current window; the losses count for the next ones."""
        if self.counts[1] < 2:
            weights = torch.ones_like(self.sums)
        else:
            older, newer = self.averages
            weights = len(losses) * torch.softmax(newer / older / self.temperature, dim=0)
        self.sums += losses.to(self.sums)
        self.counts[0] += 1
        if self.window == "steps" and self.counts[0] == self.window_steps:
            self._close_window()
        return weights.to(losses)

    def end_epoch(self) -> None:
        """Close the window, if windows are epochs."""
        if self.window == "epoch" and self.counts[0] > 0:
            self._close_window()

    def _close_window(self) -> None:
        self.averages = torch.stack([self.averages[1], self.sums / self.counts[0]])
        self.sums = torch.zeros_like(self.sums)
        self.counts[0] = 0
        self.counts[1] += 1
