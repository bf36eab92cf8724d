"""ConFIG: conflict-free inverse gradients."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.equal_angles import equal_angles


class ConFIG(GramianWeighting):
    r"""Conflict-free inverse gradients (Liu, Chu and Thuerey 2025, arXiv:2408.11104, eq. 2).

    .. math:: u = \frac{x}{\lVert x\rVert}, \quad x = U^{+} 1, \qquad d = \Big(\sum_k g_k \cdot u\Big)\, u

    where the rows of U (m, n) are the unit gradients. u has the same positive inner product with each of them; the
    length is the sum of the gradients' projections on u. In coefficients: x = U^T v with the cosines C and v = C^+ 1.

    The full method with equal direction weights; no arguments.

    Source: Liu, Chu and Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    ICLR 2025, arXiv:2408.11104, eq. 2.

    **Deviations.** Paper: as above. Released code: least squares on U, a closed form for two tasks (not for parallel
    gradients), other direction weights and lengths. The momentum variant M-ConFIG needs stored gradients and is not
    offered. Ours: the pseudo-inverse from eigenvalues, those below m eps times the largest as 0; a rank below m (where
    some inner products may differ) is counted in `rank_deficient_total`. A zero gradient has no direction: weight 0,
    counted in `left_out_total`. Where no vector fits 1 at all (x = 0, for instance two opposite gradients), d = 0,
    counted in `stationary_total`.
    """

    rank_deficient: Tensor
    left_out: Tensor
    stationary: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rank_deficient", "left_out", "stationary"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Coefficients of d."""
        norms = gramian.diagonal().clamp_min(0).sqrt()
        live = norms > 0
        weights = torch.zeros_like(norms)
        rank = 0
        if live.any():
            size = norms[live]
            cosines = gramian[live][:, live] / size / size[:, None]
            v, rank = equal_angles(cosines)
            products = cosines @ v
            square = (v @ products).item()
            self.rank_deficient += rank < len(size)
            if square > 1e-12:  # |x|^2 = 1^T C^+ 1 is at least 1 / m where 1 has a part in the range of C
                weights[live] = v / size * ((size @ products).item() / square)
            else:
                self.stationary += 1
        self.left_out += (~live).sum()
        self.diagnostics = {
            "rank": float(rank),
            "rank_deficient_total": float(self.rank_deficient),
            "left_out_total": float(self.left_out),
            "stationary_total": float(self.stationary),
        }
        return weights
