"""Which units of a shared layer each task uses, and how that roams."""

import math

import torch
from torch import Tensor


def draw_partition(num_tasks: int, units: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Masks (m, units) in which every unit has a task and every task at least ceil(sigma units) units.

    Unit u goes to task u mod m; then each task takes further units at random until it has its share.

    Args:
        num_tasks: m.
        units: Of the layer.
        sigma: Sharing ratio in (0, 1].
        generator: Source of randomness, on the CPU.
    """
    masks = torch.zeros((num_tasks, units), dtype=torch.bool)
    owners = torch.arange(units) % num_tasks
    masks[owners, torch.arange(units)] = True
    wanted = math.ceil(sigma * units - 1e-9)
    for mask in masks:
        missing = wanted - int(mask.sum())
        if missing > 0:
            mask[_sample(~mask, missing, generator)] = True
    return masks


def roam(masks: Tensor, visited: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Masks in which every task has given up to `size` units of its own for as many that it never had.

    Args:
        masks: (m, units), what is in use. Left as it is.
        visited: (m, units), what was ever in use. Brought up to date.
        size: Exchanges a task.
        generator: Source of randomness, on the CPU.
    """
    changed = masks.clone()
    for mask, seen in zip(changed, visited, strict=True):
        count = min(size, int((~seen).sum()), int(mask.sum()))
        if count == 0:
            continue
        new, old = _sample(~seen, count, generator), _sample(mask, count, generator)
        mask[old] = False
        mask[new] = True
        seen[new] = True
    return changed


def _sample(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices of `count` different candidates."""
    indices = candidates.nonzero().flatten()
    return indices[torch.randperm(len(indices), generator=generator)[:count]]
