"""`train.py -m`: a sweep that is frozen when it starts, and continued by the same command."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mtl.config import identity, schema
from mtl.config.build import build_spec, config_directory, config_text
from mtl.config.entry import explain, read_config, split_hydra
from mtl.config.launch import Sweep, check_launcher, run_sweep
from mtl.config.work import frozen
from mtl.errors import ConfigError, RunDirectoryError, UserError
from mtl.sweeps.manifest import Manifest, SweepDirectory, SweepJob, directory_names
from mtl.training.provenance import config_hash, git_state, tree_digest
from mtl.training.run_directory import RunDirectory

GRID = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"


def is_multirun(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for a sweep, and for nothing else (help, a look at the configuration)."""
    if any(argument in ("-h", "--help", "--version") for argument in arguments):
        return False
    args, _ = get_args_parser().parse_known_args(list(arguments))
    others = (args.cfg, args.info, args.hydra_help, args.shell_completion, args.run, args.config_name, args.config_path)
    return not any(others) and (args.multirun or "hydra.mode=MULTIRUN" in arguments)


def multirun(arguments: Sequence[str], retry: bool) -> int | None:
    """Do, or go on with, the sweep of a command line.

    Args:
        arguments: Of scripts/train.py, without those that are not Hydra's.
        retry: Try failed jobs however often they failed.

    Returns:
        The exit code; None if another sweeper was chosen, which goes about its jobs in its own way.
    """
    args, _ = get_args_parser().parse_known_args(list(arguments))
    overrides = [text for text in args.overrides if text != "hydra.mode=MULTIRUN"]
    if args.config_dir is not None:
        overrides.append(f"hydra.searchpath=[file://{Path(args.config_dir).resolve()}]")
    schema.register()
    identity.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory()), job_name="train"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("train", overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        if master.hydra.sweeper._target_ != GRID:
            return None
        check_launcher(master)
        HydraConfig.instance().set_config(master)
        command = f"python {sys.argv[0]} {shlex.join(arguments)}"
        directory = SweepDirectory(Path(str(master.hydra.sweep.dir)))
        name = identity.sweep_name(master.hydra.overrides.task, master.hydra.overrides.hydra)
        with directory.locked():
            if directory.manifest.is_file():
                manifest = directory.read()
                _check_same(directory, manifest, name)
            else:
                manifest = Manifest(
                    name, command, git_state(), tree_digest(config_directory()), _freeze(master, hydra.config_loader)
                )
                adopt(directory, manifest.jobs)
                directory.write(manifest)
            return run_sweep(Sweep(directory, manifest, command, master), retry)


def _check_same(directory: SweepDirectory, manifest: Manifest, name: str) -> None:
    if manifest.identity != name:
        raise RunDirectoryError(
            f"{directory.path} holds another sweep, which this command continues: {manifest.command}. Choose another "
            "directory with `hydra.sweep.dir=...`."
        )
    if manifest.files != tree_digest(config_directory()):
        sys.stdout.write(
            "The files in configs/ have changed since this sweep started. Its jobs keep the configuration of "
            "then; for the new one start another sweep with `hydra.sweep.dir=...`.\n"
        )


def adopt(directory: SweepDirectory, jobs: Sequence[SweepJob]) -> None:
    """Take over runs that are there already, if they are of the same configuration.

    Raises:
        RunDirectoryError: One is of another.
    """
    for job in jobs:
        run = RunDirectory(directory.job(job))
        if run.is_claimed():
            cfg, names = read_config(run)
            spec = build_spec(cfg, names)
            if (config_hash(spec.config), spec.seed) != (job.config_hash, job.seed):
                raise RunDirectoryError(
                    f"{run.path} holds a run of another configuration. Choose another directory, or delete that one."
                )


def _freeze(master: DictConfig, loader: ConfigLoader) -> tuple[SweepJob, ...]:
    """Compose and check every job before the first one runs.

    Raises:
        ConfigError: With what is wrong in which jobs.
    """
    points = _expand(master, loader)
    names = directory_names([identity.as_mapping(point) for point in points])
    if len(points) > 50:
        sys.stdout.write(f"Composing and checking {len(points)} jobs ...\n")
        sys.stdout.flush()
    jobs: list[SweepJob] = []
    problems: dict[str, list[str]] = {}
    for number, point in enumerate(points):
        try:
            composed = loader.load_sweep_config(master, list(point))
            with read_write(composed), open_dict(composed):
                composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)
            directory = str(composed.hydra.sweep.subdir) or names[number]
            jobs.append(freeze_job(number, directory, point, *split_hydra(composed)))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            problems.setdefault(explain(error), []).append(" ".join(point))
    if problems:
        found = "\n".join(
            f"  {point[0]} ({len(point)} of {len(points)} jobs): {text}" for text, point in problems.items()
        )
        raise ConfigError(f"Nothing was started, since some jobs cannot run:\n{found}")
    check_distinct(jobs)
    return tuple(jobs)


def freeze_job(
    number: int, directory: str, overrides: Sequence[str], cfg: DictConfig, names: Mapping[str, str]
) -> SweepJob:
    """A job with the configuration that it is going to have, built once to see that it can be."""
    spec = build_spec(cfg, names)
    spec.data.check()
    config = frozen(config_text(cfg, names))
    return SweepJob(number, directory, tuple(overrides), config_hash(spec.config), spec.seed, config)


def check_distinct(jobs: Sequence[SweepJob]) -> None:
    """Two jobs never share a directory, and none is there twice.

    Raises:
        ConfigError: Two do.
    """
    places: dict[str, SweepJob] = {}
    for job in jobs:
        if job.directory in places:
            raise ConfigError(
                f"Two jobs would run in {job.directory}: {' '.join(places[job.directory].overrides)}, and "
                f"{' '.join(job.overrides)}. Leave `hydra.sweep.subdir` out, or name there what varies."
            )
        places[job.directory] = job
    points: dict[tuple[str, ...], SweepJob] = {}
    for job in jobs:
        if job.overrides in points:
            raise ConfigError(f"A value is given twice: two jobs are {' '.join(job.overrides)}. Give each value once.")
        points[job.overrides] = job


def _expand(master: DictConfig, loader: ConfigLoader) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper has them."""
    params = master.hydra.sweeper.params or {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *master.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(texts)
    [points] = BasicSweeper.split_arguments(parsed, None)
    return [list(point) for point in points]
