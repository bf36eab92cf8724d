"""A list of runs in fixed directories: done ones are kept, interrupted ones continued, the rest started."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.config.entry import resume_run, run_overrides
from mtl.training.run_directory import MARKER, RunDirectory


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


def run_grid(jobs: Sequence[Job], out: Path) -> None:
    """Do the jobs one after another; calling it again continues where the last call stopped."""
    for number, job in enumerate(jobs, start=1):
        directory = RunDirectory(out / job.directory)
        summary = directory.finished()
        if summary is not None and summary["status"] != "failed":
            continue
        sys.stdout.write(f"[{number}/{len(jobs)}] {job.directory}\n")
        if (directory.path / MARKER).exists() and directory.checkpoint.exists():
            resume_run(directory.path)
        else:
            (directory.path / MARKER).unlink(missing_ok=True)
            run_overrides(job.overrides, directory.path)
