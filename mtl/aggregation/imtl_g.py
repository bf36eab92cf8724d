"""IMTL-G: impartial multi-task learning, the gradient part."""

import torch
from torch import Tensor

from mtl.aggregation.base import GramianWeighting
from mtl.aggregation.solvers.equal_angles import equal_angles, equal_projections


class IMTLG(GramianWeighting):
    r"""Equal projections on all task gradients (Liu et al. 2021, "Towards Impartial Multi-task Learning", ICLR).

    .. math:: \Big(\sum_j w_j g_j\Big) \cdot \frac{g_k}{\lVert g_k\rVert} \ \text{equal for all } k, \qquad
        \sum_k w_k = 1

    With the cosines C (m, m) and :math:`v_k = w_k \lVert g_k\rVert`, this is C v = const: v ~ :math:`C^{-1} 1`, then
    w = v / |g| divided by its sum. Weights may be negative; the common projection (`projection` in the diagnostics) is
    negative where that sum is.

    The gradient part of IMTL; the loss part, IMTL-L, is a loss weighting in front of it. No arguments.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, "Towards Impartial Multi-task Learning", ICLR 2021, the
    gradient balance.

    **Deviations.** Paper: closed form with :math:`g_1 D^\top (U D^\top)^{-1}`, the same where it exists; gradients at
    the shared features. LibMTL: `torch.inverse` of it, unguarded; its IMTL is L and G. nash-mtl, FAMO: G only, on
    parameters. TorchJD: pseudo-inverse of G, zero weights where they sum to less than 1e-12. Ours: C is tested for full
    rank; where it has less, or the weights' sum is 0 up to rounding, the weights that sum to 1, differ least from equal
    projections (least squares) and have the smallest norm of v, counted in `rank_deficient_total`. A zero gradient has
    no direction: weight 0, counted in `left_out_total`.
    """

    rank_deficient: Tensor
    left_out: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rank_deficient", "left_out"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def forward(self, gramian: Tensor, losses: Tensor) -> Tensor:  # noqa: ARG002
        """The closed form, or its least-squares counterpart."""
        norms = gramian.diagonal().clamp_min(0).sqrt()
        live = norms > 0
        weights = torch.zeros_like(norms)
        rank, projection, spread = 0, 0.0, 0.0
        if live.any():
            size = norms[live]
            cosines = gramian[live][:, live] / size / size[:, None]
            a = size.min() / size
            v, rank = equal_angles(cosines)
            total = (a @ v).item()
            if rank == len(a) and abs(total) > 1e-12 * (a @ v.abs()).item():
                v = v / total
            else:
                v = equal_projections(cosines, a)
                self.rank_deficient += 1
            products = cosines @ v * size.min()
            projection, spread = products.mean().item(), (products.max() - products.min()).item()
            weights[live] = v * a
        self.left_out += (~live).sum()
        self.diagnostics = {
            "rank": float(rank),
            "projection": projection,
            "projection_spread": spread,
            "rank_deficient_total": float(self.rank_deficient),
            "left_out_total": float(self.left_out),
        }
        return weights
