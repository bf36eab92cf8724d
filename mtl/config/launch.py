"""How the jobs of a sweep are run: in worker processes here, or by another of Hydra's launchers."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from mtl.config.external import launch_external
from mtl.config.plugins import used_plugins
from mtl.errors import ConfigError
from mtl.sweeps.display import make_display
from mtl.sweeps.manifest import Manifest, SweepDirectory
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.pool import Source, WorkerPool, worker_environments
from mtl.sweeps.queue import JobQueue, open_jobs
from mtl.sweeps.report import is_failure, report
from mtl.sweeps.state import DONE, State
from mtl.sweeps.stopping import Stopped, stoppable
from mtl.training.provenance import same_code
from mtl.training.run_directory import RunDirectory

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
N_JOBS = "hydra.launcher.n_jobs="
WORKER = [sys.executable, "-m", "mtl.config.worker"]


@dataclass(frozen=True)
class Sweep:
    """A sweep and how it was asked for.

    Attributes:
        directory: Where it is.
        manifest: What it is.
        command: What continues it.
        master: The configuration of the whole, with Hydra's settings; None for one serial worker.
    """

    directory: SweepDirectory
    manifest: Manifest
    command: str
    master: DictConfig | None = None


def run_sweep(sweep: Sweep, retry: bool = False, progress: str = "auto") -> int:
    """Do what is left of a sweep; returns the exit code.

    0: every job has a result (a diverged run is one). 1: a job failed, or has none yet. 130, 143: stopped by a signal.

    Args:
        sweep: What and where; its directory is locked by this process.
        retry: Try failed jobs however often they failed.
        progress: Kind of display, where the sweep has no configuration that says it.
    """
    directory, out = sweep.directory, sys.stdout
    monitor = Monitor(directory, sweep.manifest.jobs)
    jobs = open_jobs(directory, sweep.manifest.jobs, retry)
    settings = None if sweep.master is None else sweep.master.hydra.launcher
    target = BASIC if settings is None else str(settings._target_)
    wanted = parallel_jobs(settings, len(sweep.manifest.jobs)) if target in (BASIC, JOBLIB) else 0
    size, threads = min(wanted, len(jobs)), share(wanted)  # the last jobs of a sweep have no more than the others had
    how = f"{size} at a time, {threads} CPU threads each" if size else f"by {target.rpartition('.')[2]}"
    if size and monitor.with_state(State.INTERRUPTED, State.FAILED):
        how += " (what has begun keeps its number)"
    out.write(f"Sweep {directory.path}\n{monitor.counts()}" + (f"; {len(jobs)} to do, {how}\n" if jobs else "\n"))
    kept = _from_other_code(monitor)
    if kept:
        out.write(f"{kept} of its runs were made by another version of the code; delete them to make them again.\n")
    out.flush()

    def act(tick: Callable[[], None]) -> None:
        if jobs and size:
            run_here(JobQueue(directory, jobs, threads), size, threads, tick, wanted)
        elif jobs and sweep.master is not None:
            launch_external(sweep.master, directory, jobs, tick)

    code = conduct(act, monitor, progress if sweep.master is None else sweep.master.tracking.progress)
    out.write(report(monitor, sweep.command))
    return int(is_failure(monitor)) if code is None else code


def conduct(act: Callable[[Callable[[], None]], None], monitor: Monitor, progress: str) -> int | None:
    """Do something that a display shows and that Ctrl-C and SIGTERM stop.

    Args:
        act: Does it, and calls its argument now and then.
        monitor: Of the jobs.
        progress: Kind of display.

    Returns:
        The exit code if it was stopped.
    """
    code, display = None, make_display(progress, monitor)
    try:
        with stoppable():
            act(lambda: display.update(monitor.refresh()))
    except Stopped as stopped:
        code = stopped.exit_code
    finally:
        display.update(monitor.refresh())
        display.close()
    if code is not None:
        sys.stdout.write("Stopped; what was running continues from its last checkpoint.\n")
    return code


def _from_other_code(monitor: Monitor) -> int:
    now: dict[tuple[Any, ...], bool] = {}  # what a run says of its code, and packages it uses -> whether that is here
    count = 0
    for job in monitor.with_state(*DONE):
        summary, plugins = RunDirectory(monitor.directory.job(job)).finished(), used_plugins(job.config)
        if summary is not None:
            about = (summary.get("code"), json.dumps(summary.get("git")), *plugins)
            if about not in now:
                now[about] = same_code(summary, plugins)
            count += not now[about]
    return count


def share(size: int) -> int:
    """CPU threads of each of `size` parallel jobs: those that a single one would have, divided."""
    return max(1, torch.get_num_threads() // max(size, 1))


def parallel_jobs(settings: DictConfig | None, jobs: int) -> int:
    """How many jobs run at once: one, or joblib's `n_jobs` (-1: as many as CPUs, -2: one less ...).

    Raises:
        ConfigError: `n_jobs` is 0.
    """
    if settings is None or settings._target_ == BASIC:
        return 1
    wanted = int(settings.n_jobs)
    if wanted == 0:
        raise ConfigError("`hydra.launcher.n_jobs` should be positive, or negative to count from all CPUs. Found 0.")
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(wanted if wanted > 0 else max(1, cpus + 1 + wanted), max(jobs, 1))


def check_launcher(master: DictConfig) -> None:
    """Refuse settings of joblib that have no effect.

    Raises:
        ConfigError: One is given.
    """
    texts = list(master.hydra.overrides.hydra) if master.hydra.launcher._target_ == JOBLIB else []
    given = [text for text in texts if text.startswith("hydra.launcher.") and not text.startswith(N_JOBS)]
    if given:
        raise ConfigError(
            "Of joblib's settings a sweep takes `n_jobs` alone: it has workers of its own, since joblib's pool "
            f"ends with the first worker that is killed. Leave out {shlex.join(given)}."
        )


def run_here(source: Source, size: int, threads: int, tick: Callable[[], None], share_of: int = 0) -> None:
    """Do the jobs of a source in `size` workers on this machine, each with the resources of one of `share_of`."""
    devices = visible_devices(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())
    WorkerPool(WORKER, worker_environments(max(size, share_of), threads, devices)[:size]).run(source, tick)


def visible_devices(variable: str | None, count: int) -> list[str]:
    """The CUDA devices that workers can be given, as CUDA_VISIBLE_DEVICES names them."""
    return [name.strip() for name in variable.split(",")][:count] if variable else [str(n) for n in range(count)]
