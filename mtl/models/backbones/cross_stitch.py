"""Cross-stitch LeNet: one column per task, mixed after each stage. It has no shared features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl.models.backbones.lenet import _flat_size
from mtl.validation import check_count, check_fraction


class CrossStitchLeNet(nn.Module):
    """LeNet columns joined by cross-stitch units (Misra et al. 2016, arXiv:1604.03539, eq. 1).

    After each stage, task t goes on with sum_s A[t, s] x_s, where A (m, m) is learned for that stage. Each task ends
    with features of its own, so strategies at the feature level do not apply to it; the shared parameters (every
    column, and the units before the last) are found by reachability and not by name.

    Args:
        input_shape: (C, H, W) with H, W >= 16.
        tasks: Task names; one column each.
        out_features: Width of each task's representation.
        diagonal: Initial weight of a task's own column, in [0, 1]; the others share the rest. 0.9 in the paper.

    **Deviations.** Paper: one unit per channel map on AlexNet, columns pre-trained per task. Ours: one unit per stage
    on LeNet, trained from scratch, with the common learning rate.
    """

    def __init__(
        self, input_shape: tuple[int, ...], tasks: Sequence[str], out_features: int = 50, diagonal: float = 0.9
    ) -> None:
        super().__init__()
        check_count("out_features", out_features)
        check_fraction("diagonal", diagonal)
        self.tasks = tuple(tasks)
        self.out_features = out_features
        flat, m = _flat_size(input_shape), len(self.tasks)
        self.conv1 = nn.ModuleList(nn.Conv2d(input_shape[0], 10, 5) for _ in self.tasks)
        self.conv2 = nn.ModuleList(nn.Conv2d(10, 20, 5) for _ in self.tasks)
        self.linear = nn.ModuleList(nn.Linear(flat, out_features) for _ in self.tasks)
        initial = torch.full((m, m), (1 - diagonal) / max(m - 1, 1))
        initial.fill_diagonal_(diagonal if m > 1 else 1.0)
        # One row a parameter: the last stage's rows belong to one task each.
        self.units = nn.ModuleList(nn.ParameterList(row.clone() for row in initial) for _ in range(3))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> task name -> (B, out_features)."""
        columns = [functional.max_pool2d(conv(inputs), 2).relu() for conv in self.conv1]
        columns = self._stitch(0, columns)
        columns = [
            functional.max_pool2d(conv(column), 2).relu() for conv, column in zip(self.conv2, columns, strict=True)
        ]
        columns = self._stitch(1, columns)
        columns = [linear(column.flatten(1)).relu() for linear, column in zip(self.linear, columns, strict=True)]
        return dict(zip(self.tasks, self._stitch(2, columns), strict=True))

    def _stitch(self, stage: int, columns: list[Tensor]) -> list[Tensor]:
        rows: nn.Module = self.units[stage]
        assert isinstance(rows, nn.ParameterList)
        stacked = torch.stack(columns, dim=-1)
        return [stacked @ row for row in rows]
