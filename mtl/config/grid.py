"""A list of runs in fixed directories: done ones are kept, interrupted ones continued, the rest started."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.config.build import build_spec
from mtl.config.entry import compose_config, read_config, resume_run, run_overrides
from mtl.errors import RunDirectoryError
from mtl.training.provenance import config_hash, git_state
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
    """Do the jobs one after another; calling it again continues where the last call stopped.

    Raises:
        RunDirectoryError: a directory holds a run of another configuration.
    """
    commit, kept = git_state(), 0
    for number, job in enumerate(jobs, start=1):
        directory = RunDirectory(out / job.directory)
        summary = directory.finished()
        sys.stdout.write(f"[{number}/{len(jobs)}] {job.directory}\n")
        if (directory.path / MARKER).exists():
            _check_same(job, directory)
        if summary is not None and summary["status"] != "failed":
            kept += summary["git"] != commit
        elif (directory.path / MARKER).exists():
            resume_run(directory.path)
        else:
            run_overrides(job.overrides, directory.path)
    if kept:
        sys.stdout.write(f"{kept} runs were kept from another version of the code; delete {out} to redo them.\n")


def _check_same(job: Job, directory: RunDirectory) -> None:
    cfg, names = compose_config(job.overrides)
    stored, _ = read_config(directory)
    wanted, found = (config_hash(build_spec(c, names).config) for c in (cfg, stored))
    if (wanted, cfg.seed) != (found, stored.seed):
        raise RunDirectoryError(
            f"{directory.path} holds a run of another configuration. Choose another directory with `out=...`, or "
            "delete that one."
        )
