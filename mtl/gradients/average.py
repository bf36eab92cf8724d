"""A moving average of Gramians."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl.errors import ConfigError
from mtl.validation import check_fraction


class GramianAverage:
    r"""Exponential moving average over the measured Gramians, corrected for its start.

    .. math:: \bar G_t = \frac{1 - \beta}{1 - \beta^t} \sum_{s \le t} \beta^{t - s} G_s

    It is a Gramian again: an average of positive semi-definite matrices.

    Args:
        decay: beta in [0, 1); 0 is the last Gramian itself.
    """

    def __init__(self, decay: float) -> None:
        check_fraction("ema", decay)
        if decay == 1:
            raise ConfigError("Parameter `ema` should be a number in [0, 1). Found `ema = 1`.")
        self.decay = decay
        self.count = 0
        self._sum: Tensor | None = None

    def __call__(self, gramian: Tensor) -> Tensor:
        """Take a measured Gramian (m, m), float64 on the CPU; return the average so far."""
        if self.decay == 0:
            return gramian
        self.count += 1
        new = gramian * (1 - self.decay)
        self._sum = new if self._sum is None else self._sum * self.decay + new
        return self._sum / (1 - self.decay**self.count)

    @property
    def diagnostics(self) -> dict[str, float]:
        """How many Gramians are in the average; nothing without one."""
        return {"gramians_averaged": float(self.count)} if self.decay else {}

    def state_dict(self) -> dict[str, Any]:
        """All that the next average depends on."""
        return {"count": self.count, "sum": self._sum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.count, self._sum = state["count"], state["sum"]
