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

    Source: Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, arXiv:1803.10704,
    eq. 7.

    **Deviations.** Paper: epochs, weights sum to m. nash-mtl, FAMO: windows of 25 iterations. Ours: the paper.
    """

    sums: Tensor
    averages: Tensor

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
        self.steps = 0  # in this window
        self.windows = 0

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights of the current window; the losses count for the next ones."""
        if self.windows < 2:
            weights = torch.ones_like(losses)
        else:
            older, newer = self.averages
            weights = (len(losses) * torch.softmax(newer / older / self.temperature, dim=0)).to(losses)
        self.sums += losses
        self.steps += 1
        if self.window == "steps" and self.steps == self.window_steps:
            self._close_window()
        return weights

    def end_epoch(self) -> None:
        """Close the window, if windows are epochs."""
        if self.window == "epoch" and self.steps > 0:
            self._close_window()

    def _close_window(self) -> None:
        self.averages = torch.stack([self.averages[1], self.sums / self.steps])
        self.sums = torch.zeros_like(self.sums)
        self.steps = 0
        self.windows += 1

    def get_extra_state(self) -> dict[str, int]:
        """The counters."""
        return {"steps": self.steps, "windows": self.windows}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Continue from `get_extra_state`."""
        self.steps, self.windows = state["steps"], state["windows"]
