"""Launchers of Hydra's that hand jobs to something else: submitit (SLURM, or processes here) and Ray."""

import contextlib
import copy
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from mtl.config.work import work
from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.pool import GRACE
from mtl.sweeps.queue import record_loss
from mtl.sweeps.state import Attempts, State, read_status
from mtl.sweeps.stopping import Stopped

SECONDS = 2.0
"""Between two looks at the run directories."""


class FrozenLoader:
    """Gives launchers the frozen configuration of a job, where Hydra's own would compose it anew as the job starts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of the job with these overrides; called where the job runs."""
        [job] = [job for job in SweepDirectory(self.path).read().jobs if job.overrides == tuple(sweep_overrides)]
        config = OmegaConf.create({**job.config, "hydra": None})
        config.hydra = copy.deepcopy(master_config.hydra)
        OmegaConf.set_readonly(config.hydra, False)  # launchers write the job's number into it
        with open_dict(config.hydra):
            config.hydra.sweep.dir = str(self.path)
            config.hydra.sweep.subdir = job.directory
            config.hydra.overrides.task = list(sweep_overrides)
        return config


def launched(cfg: DictConfig) -> str:
    """What a launcher runs: one job; returns its state."""
    config = OmegaConf.to_container(cfg)
    assert isinstance(config, dict)
    hydra = HydraConfig.get()
    threads: Any = OmegaConf.select(hydra.launcher, "cpus_per_task")
    return str(work(Path(hydra.runtime.output_dir), {str(key): value for key, value in config.items()}, threads))


def launch_external(
    master: DictConfig, directory: SweepDirectory, jobs: Sequence[SweepJob], tick: Callable[[], None]
) -> None:
    """Hand the jobs to the launcher of the configuration, and wait for them.

    Whatever the launcher says, the run directories tell what happened. Jobs are handed over
    `hydra.sweeper.max_batch_size` at a time.
    """
    path = directory.path.resolve()
    OmegaConf.set_readonly(master.hydra, False)  # as launchers find it in a sweep of Hydra's own
    with open_dict(master.hydra):
        master.hydra.sweep.dir = str(path)
    context = HydraContext(config_loader=FrozenLoader(path), callbacks=Callbacks())  # type: ignore[arg-type]
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=launched, config=master)
    size = master.hydra.sweeper.max_batch_size or len(jobs)
    with _ticking(tick):
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            try:
                launcher.launch([list(job.overrides) for job in batch], initial_job_idx=batch[0].number)
            except Stopped:
                _interrupt(directory, batch)
                raise
            except Exception as error:  # one process that died; the others go on, and every job is looked at below
                sys.stderr.write(f"{master.hydra.launcher._target_.rpartition('.')[2]}: {error}\n")
            _await(directory, batch)


@contextlib.contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` now and then from a thread, while a launcher has the main one."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(SECONDS):
            tick()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _await(directory: SweepDirectory, jobs: Sequence[SweepJob]) -> None:
    """Wait for jobs that still run; one whose process is gone without a word has failed."""
    while any(read_status(directory.job(job)).state is State.RUNNING for job in jobs):
        time.sleep(SECONDS)
    for job in jobs:
        attempts = Attempts(directory.job(job)).read()
        if attempts and attempts[-1]["event"] == "started":
            record_loss(directory, job, "The process of the job is gone; see the launcher's own files.")


def _interrupt(directory: SweepDirectory, jobs: Sequence[SweepJob]) -> None:
    """Stop the jobs that run on this machine, and wait until they have; name those that run elsewhere."""
    here = []
    for job in jobs:
        attempts = [event for event in Attempts(directory.job(job)).read() if event["event"] == "started"]
        running = read_status(directory.job(job)).state is State.RUNNING
        if running and attempts[-1]["host"] == socket.gethostname():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(attempts[-1]["pid"], signal.SIGINT)
            here.append(job)
        elif running:
            sys.stdout.write(f"{job.directory} goes on at {attempts[-1]['host']}; stop it with the cluster's tools.\n")
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(read_status(directory.job(job)).state is State.RUNNING for job in here):
        time.sleep(0.1)
