"""Gradient sign dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.aggregation.base import Aggregator, Combination, TaskGradients
from mtl.errors import ConfigError
from mtl.validation import check_choice, check_fraction

SIGNS = ("activation", "none")
RESCALES = ("none", "sum", "released_code")


class GradDrop(Aggregator):
    r"""Gradient sign dropout (GradDrop; Chen et al. 2020, arXiv:2010.06808, eq. 1 and Algorithm 1).

    Each element of the shared features keeps the task gradients of one sign and drops the others:

    .. math:: P = \frac{1}{2}\Big(1 + \frac{\sum_k s_k}{\sum_k |s_k|}\Big), \qquad
        d = \sum_k \big(l_k + (1 - l_k) M_k\big) g_k

    where :math:`g_k` are the task gradients at the features, :math:`s_k` is :math:`\mathrm{sign}(z)\, g_k` with the
    activations z, summed over the batch or not, U is uniform in [0, 1), and :math:`M_k` is 0 where :math:`s_k` has the
    sign that was not drawn (positive is drawn where U < P), else 1. :math:`l_k` is the leak. One draw and one decision
    per element of s.

    Args:
        leak: How much of a dropped gradient passes, in [0, 1]: one number, or one per task in their order. 0: pure
            GradDrop. 1 for all tasks: the plain sum.
        sign: `activation` (paper; at the features only) or `none`: s = g.
        rescale: Length of d: as it is (`none`), that of the plain sum (`sum`), or `released_code`.

    Strategy options that belong to it: `level: features` with `batch_axis: summed`, one decision per feature for the
    whole batch, or `kept`, one per sample. `level: parameters` needs `sign: none` and `batch_axis: kept`.

    Source: Chen, Ngiam, Huang, Luong, Kretzschmar, Chai and Anguelov, "Just Pick a Sign: Optimizing Deep Multitask
    Models with Gradient Sign Dropout", NeurIPS 2020, arXiv:2010.06808, eq. 1 and Algorithm 1.

    **Deviations.** Paper: its text was not verified; TorchJD implements lines 10 to 15 of Algorithm 1 and gives d as
    above, without a rescaling.
    Released code (tensorflow/lingvo): sums over the batch by default, an option keeps it. Multiplies d by
    |d| / |sum| by default, under a name and a comment that say the norm is kept (`released_code`). Offers a steeper or
    a sigmoid keep function (not offered here).
    Kurin et al. 2022: rescales d to |sum| (`sum`). LibMTL: sums over the batch, no rescaling, features only. CAGrad,
    FAMO, auto-lambda: parameter gradients without a sign (`sign: none`); the mean over tasks, then times m: d.
    SamsungLabs: one decision per task a step.
    An element where s is 0 for all tasks: dropped by LibMTL and TorchJD; kept by lingvo and by ours, as no sign was
    picked against it.
    """

    gives_weights = False

    def __init__(self, leak: float | Sequence[float] = 0.0, sign: str = "activation", rescale: str = "none") -> None:
        super().__init__()
        for value in leak if isinstance(leak, Sequence) else [leak]:
            check_fraction("leak", value)
        check_choice("sign", sign, SIGNS)
        check_choice("rescale", rescale, RESCALES)
        self.levels = ("features",) if sign == "activation" else ("parameters", "features")
        self.leak = leak
        self.sign = sign
        self.rescale = rescale
        self.generator: torch.Generator | None = None
        self._leaks: list[float] = []

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Take the generator; match leaks and tasks.

        Raises:
            ConfigError: there is not one leak for each task.
        """
        self._leaks = list(self.leak) if isinstance(self.leak, Sequence) else [self.leak] * num_tasks
        if len(self._leaks) != num_tasks:
            raise ConfigError(
                f"Parameter `leak` should be one number, or one for each of the {num_tasks} tasks. Found "
                f"`leak = {self.leak}`."
            )
        self.generator = generator

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """One draw per element, on the CPU, so that every device sees the same numbers."""
        rows = gradients.rows
        signs = torch.sign(gradients.point()) if self.sign == "activation" else None
        direction = torch.zeros_like(rows[0])
        dropped = elements = start = 0
        for samples, size in gradients.batch or ((1, rows.shape[1]),):
            columns = slice(start, start + samples * size)
            shape = (samples, size)
            block = rows[:, columns].view(len(rows), *shape)
            factors = None if signs is None else signs[columns].view(shape)
            compared = [(g if factors is None else g * factors).sum(0) for g in block]
            drops = self._draw(torch.stack(compared))
            out = direction[columns].view(shape)
            for g, drop, leak in zip(block, drops, self._leaks, strict=True):
                out += torch.where(drop, leak * g, g)
            dropped += int(drops.sum())
            elements += drops.numel()
            start = columns.stop
        factor = self._length(rows, direction)
        self.diagnostics = {"dropped_fraction": dropped / max(elements, 1), "rescaled_by": factor}
        return Combination(direction=direction if factor == 1 else direction * factor)

    def _draw(self, compared: Tensor) -> Tensor:
        """Where (m, size) a task's gradient has the sign that was not drawn."""
        purity = (1 + compared.sum(0) / compared.abs().sum(0)) / 2  # NaN where all are 0: then nothing is dropped
        uniform = torch.rand(compared.shape[1], generator=self.generator, dtype=torch.float32)
        positive = uniform.to(purity) < purity
        return torch.where(positive, compared < 0, compared > 0)

    def _length(self, rows: Tensor, direction: Tensor) -> float:
        """Factor of d; 1 where the rescaling would divide by 0."""
        if self.rescale == "none":
            return 1.0
        found, plain = direction.norm().item(), rows.sum(0).norm().item()
        over, under = (plain, found) if self.rescale == "sum" else (found, plain)
        return over / under if under > 0 else 1.0
