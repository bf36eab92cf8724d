"""Aligned-MTL: independent component alignment."""

import math

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers import two_tasks
from mtl.aggregation.solvers.equal_angles import resolution
from mtl.validation import check_choice

SCALES = ("min", "median", "rmse")


class AlignedMTL(GramianWeighting):
    r"""Independent component alignment (Senushkin et al. 2023, CVPR, Algorithm 1).

    The gradient matrix is replaced by the nearest one with condition number 1, all singular values being
    :math:`\sigma`. With :math:`G = V \Lambda V^\top`:

    .. math:: \hat J = B J, \qquad B = \sigma\, V \Lambda^{-1/2} V^\top, \qquad w = B\, 1

    B is symmetric. Eigenvalues of G that are 0 up to rounding are left out: m eps times the largest, with eps of
    float32 where G is not positive semi-definite to float64 accuracy.

    Args:
        scale: :math:`\sigma^2` is the smallest kept eigenvalue (`min`, paper), their `median` (the lower one of two) or
            their mean (`rmse`); the last two are options of the released code.
        reduce: The aligned gradients are added (`sum`, released code) or averaged (`mean`, the paper's task weights
            that sum to 1).

    Source: Senushkin, Patakin, Kuznetsov and Konushin, "Independent Component Alignment for Multi-Task Learning",
    CVPR 2023, arXiv:2305.19000, Algorithm 1.

    **Deviations.** Released code and LibMTL: `torch.symeig`, removed from torch; float32, eps of the default type.
    TorchJD: mean. Ours: float64, `rank` and `condition_number` (of J, over kept directions) in the diagnostics, a rank
    below m counted in `rank_deficient_total`. All gradients 0: weights 0.
    """

    rank_deficient: Tensor

    def __init__(self, scale: str = "min", reduce: str = "sum") -> None:
        super().__init__()
        check_choice("scale", scale, SCALES)
        check_choice("reduce", reduce, ("sum", "mean"))
        self.scale = scale
        self.reduce = reduce
        self.register_buffer("rank_deficient", torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Row sums of B."""
        m = len(gramian)
        if m == 2:
            found = two_tasks.align(gramian)
            if found is not None:
                return self._two(found)
        values, vectors = torch.linalg.eigh(gramian)
        kept = values > resolution(values) * values[-1].clamp_min(0)
        rank = int(kept.sum())
        self.rank_deficient += rank < m
        self.diagnostics = {"rank": float(rank), "rank_deficient_total": float(self.rank_deficient)}
        if rank == 0:
            return torch.zeros(m, dtype=gramian.dtype)
        values, vectors = values[kept], vectors[:, kept]
        self.diagnostics["condition_number"] = (values[-1] / values[0]).sqrt().item()
        square = {"min": values[0], "median": values.median(), "rmse": values.mean()}[self.scale]
        weights: Tensor = vectors @ ((square / values).sqrt() * vectors.sum(0))
        return weights if self.reduce == "sum" else weights / m

    def _two(self, found: two_tasks.Aligned) -> Tensor:
        low, high = found.values
        self.diagnostics = {
            "rank": 2.0,
            "rank_deficient_total": float(self.rank_deficient),
            "condition_number": math.sqrt(high / low),
        }
        square = (low + high) / 2 if self.scale == "rmse" else low
        factor = math.sqrt(square) * (1.0 if self.reduce == "sum" else 0.5)
        return torch.tensor([factor * found.sums[0], factor * found.sums[1]], dtype=torch.float64)
