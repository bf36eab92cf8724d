"""Affinities that a run has measured."""

import torch
from torch import Tensor

from mtl.errors import RunDirectoryError
from mtl.results.runs import Run


def read_affinity(run: Run) -> Tensor:
    """The last affinities (m, m) in the record of `run`, row i the source task, float64; NaN where none was measured.

    Raises:
        RunDirectoryError: no event of the run has any.
    """
    index = {task: k for k, task in enumerate(run.tasks)}
    names = {f"affinity/{source}->{target}": (i, j) for source, i in index.items() for target, j in index.items()}
    last: dict[str, float] = {}
    for event in run.events("step"):
        found = {name: value for name, value in (event.get("diagnostics") or {}).items() if name in names}
        last = found or last
    if not last:
        raise RunDirectoryError(
            f"{run.path} has no measured affinities. Train with strategy=tag_affinity, and let a step be logged after "
            "its first measurement (tracking.log_every_steps)."
        )
    affinity = torch.full((len(index), len(index)), torch.nan, dtype=torch.float64)
    for name, value in last.items():
        affinity[names[name]] = torch.nan if value is None else value
    return affinity
