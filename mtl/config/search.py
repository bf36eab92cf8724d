"""The command line of scripts/search.py: a search on the validation score, trial after trial, with Optuna."""

import hashlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.config.build import config_directory
from mtl.config.entry import compose_config
from mtl.config.launch import conduct, run_here, share
from mtl.config.space import split_space
from mtl.config.trials import Trials
from mtl.errors import ConfigError, RunDirectoryError
from mtl.sweeps.manifest import Manifest, SweepDirectory
from mtl.sweeps.monitor import Monitor
from mtl.sweeps.report import is_failure, report
from mtl.training.provenance import git_state, tree_digest

USAGE = "KEY=SPACE ... [trials=20] [seeds=0,1] [jobs=1] [out=DIR] [overrides of every trial]"
KEYS = ("trials", "seeds", "jobs", "out")


@dataclass(frozen=True)
class Options:
    """The arguments.

    Attributes:
        trials: How many there are to be, those of earlier calls included.
        seeds: Of the runs of a trial; its score is their mean.
        jobs: Runs at once.
        out: Directory of the search; None for one named after what is searched.
        overrides: Search space and overrides of every trial.
    """

    trials: int
    seeds: tuple[int, ...]
    jobs: int
    out: Path | None
    overrides: tuple[str, ...]


def search_main(arguments: Sequence[str]) -> int:
    """Do, or go on with, a search; returns the exit code of a sweep."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("A search needs the package optuna, which is not installed: `pip install -e '.[optuna]'`.")
    options = parse(arguments)
    space, fixed = split_space(options.overrides)
    cfg, _ = compose_config(fixed)
    asked = json.dumps([sorted((key, str(value)) for key, value in space.items()), sorted(fixed), options.seeds])
    identity = f"{'_'.join(key.rpartition('.')[2] for key in space)}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    directory = SweepDirectory(options.out or Path(cfg.paths.output_dir) / cfg.experiment_name / "search" / identity)
    command = f"python {shlex.join([sys.argv[0], *arguments])}"
    with directory.locked():
        _open(directory, Manifest(identity, command, git_state(), tree_digest(config_directory()), ()))
        monitor = Monitor(directory, directory.read().jobs)
        size = min(options.jobs, options.trials * len(options.seeds))
        trials = Trials(directory, space, fixed, options.seeds, options.trials, share(size), size > 1, monitor.add)
        sys.stdout.write(
            f"Search {directory.path}\n{trials.counts()}; {size} runs at a time, {share(size)} threads each\n"
        )
        code = conduct(lambda tick: run_here(trials, size, share(size), tick), monitor, cfg.tracking.progress)
    sys.stdout.write(report(monitor, command) + trials.describe_best())
    return int(is_failure(monitor)) if code is None else code


def parse(arguments: Sequence[str]) -> Options:
    """Read KEY=VALUE arguments.

    Raises:
        ConfigError: One is no KEY=VALUE, or a number is none.
    """
    values: dict[str, str] = {}
    overrides = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or key.startswith("hydra"):
            raise ConfigError(f"Arguments are {USAGE}. Found `{argument}`.")
        if key in KEYS:
            values[key] = value
        else:
            overrides.append(argument)
    seeds = tuple(_number("seeds", text, 0) for text in values.get("seeds", "0").split(","))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"`seeds` should differ. Found `seeds={values['seeds']}`.")
    trials, jobs = (_number(key, values.get(key, default), 1) for key, default in (("trials", "20"), ("jobs", "1")))
    return Options(trials, seeds, jobs, Path(values["out"]) if "out" in values else None, tuple(overrides))


def _number(key: str, text: str, least: int) -> int:
    if not text.strip().isdigit() or int(text) < least:
        raise ConfigError(f"`{key}` should be whole numbers from {least} on. Found `{text}`.")
    return int(text)


def _open(directory: SweepDirectory, manifest: Manifest) -> None:
    if not directory.manifest.is_file():
        directory.write(manifest)
    found = directory.read()
    if found.identity != manifest.identity:
        raise RunDirectoryError(
            f"{directory.path} holds another search, which this command continues: {found.command}. Choose another "
            "directory with `out=...`."
        )
    if found.files != manifest.files:
        raise RunDirectoryError(
            f"The files in configs/ have changed since the search in {directory.path} started, so that new trials "
            "would not compare with its old ones. Start another with `out=...`."
        )
