"""A list of runs in fixed directories: done ones are kept, interrupted ones continued, the rest started."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.config.build import config_directory
from mtl.config.entry import compose_config
from mtl.config.launch import Sweep, run_sweep
from mtl.config.multirun import adopt, check_distinct, freeze_job
from mtl.sweeps.manifest import Manifest, SweepDirectory
from mtl.training.provenance import git_state, tree_digest


@dataclass(frozen=True)
class Job:
    """One run of a grid: its directory below the grid's, and its overrides of configs/train.yaml."""

    directory: str
    overrides: tuple[str, ...]


def comparison(
    tasks: Sequence[str], strategies: Sequence[str], seeds: Sequence[int], common: Sequence[str]
) -> list[Job]:
    """Single-task baselines and multi-task strategies, every one with every seed."""
    jobs = []
    for seed in seeds:
        for task in tasks:
            overrides = (*common, "strategy=uniform", f"dataset.tasks=[{task}]", f"seed={seed}")
            jobs.append(Job(f"single_task_{task}/seed={seed}", overrides))
        jobs += [
            Job(f"{strategy}/seed={seed}", (*common, f"strategy={strategy}", f"seed={seed}")) for strategy in strategies
        ]
    return jobs


def run_grid(jobs: Sequence[Job], out: Path) -> int:
    """Do the jobs one after another; calling it again continues where the last call stopped.

    Returns:
        The exit code of `run_sweep`.

    Raises:
        RunDirectoryError: a directory holds a run of another configuration.
    """
    directory, command = SweepDirectory(out), f"python {shlex.join(sys.argv)}"
    frozen = [
        freeze_job(number, job.directory, job.overrides, *compose_config(job.overrides))
        for number, job in enumerate(jobs)
    ]
    check_distinct(frozen)
    manifest = Manifest("grid", command, git_state(), tree_digest(config_directory()), tuple(frozen))
    with directory.locked():
        adopt(directory, frozen)
        directory.write(manifest)
        return run_sweep(Sweep(directory, manifest, command))
