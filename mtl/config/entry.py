"""Entry points: the command line, and the same from Python."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mtl.config import identity, schema
from mtl.config.build import GROUPS, build_spec, config_directory, config_text
from mtl.config.check import unknown_key
from mtl.errors import ConfigError, RunDirectoryError, UserError
from mtl.tracking import finite
from mtl.training import evaluate_run, run
from mtl.training.run_directory import RunDirectory


def train_main(arguments: Sequence[str]) -> int:
    """The command line of scripts/train.py; returns the exit code.

    `resume=RUN_DIR` continues a run from that directory's own configuration. Everything else goes through Hydra.
    """
    return guarded(lambda: _train(list(arguments)))


def evaluate_main(arguments: Sequence[str]) -> int:
    """The command line of scripts/evaluate.py; prints metrics as JSON, undefined ones as null.

    Returns the exit code.
    """

    def action() -> int:
        if len(arguments) != 1 or not arguments[0].startswith("run="):
            raise RunDirectoryError(f"The one argument is run=RUN_DIR. Found: {' '.join(arguments) or 'nothing'}.")
        directory = RunDirectory(Path(arguments[0].partition("=")[2]).resolve())
        directory.check_resumable()
        cfg, names = read_config(directory)
        result = finite(evaluate_run(build_spec(cfg, names), directory.path))
        sys.stdout.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
        return 0

    return guarded(action)


def run_overrides(overrides: Sequence[str], output_dir: Path) -> dict[str, Any]:
    """Compose configs/train.yaml with overrides and run it in `output_dir`; returns the summary."""
    cfg, names = compose_config(overrides)
    return run(build_spec(cfg, names), output_dir, config_text(cfg, names))


def compose_config(overrides: Sequence[str] = ()) -> tuple[DictConfig, dict[str, str]]:
    """The configuration for command-line overrides, and the names of its parts."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        return split_hydra(compose("train", overrides=list(overrides), return_hydra_config=True))


def split_hydra(cfg: DictConfig) -> tuple[DictConfig, dict[str, str]]:
    """A composed configuration without Hydra's own settings, and the names of its parts."""
    names = _names(cfg.hydra.runtime.choices)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg, names


def resume_run(path: Path) -> dict[str, Any]:
    """Continue the interrupted run in `path` to its end; a completed one is left as it is."""
    directory = RunDirectory(path)
    directory.check_resumable()
    summary = directory.finished()
    if summary is not None and summary["status"] == "completed":
        sys.stdout.write(f"The run in {path} is completed; nothing to resume.\n")
        return summary
    cfg, names = read_config(directory)
    return run(build_spec(cfg, names), path, config_text(cfg, names), resume=True)


def read_config(directory: RunDirectory) -> tuple[DictConfig, dict[str, str]]:
    """The configuration that a run directory holds, checked against the schema."""
    try:
        stored = OmegaConf.to_container(OmegaConf.load(directory.config))
        assert isinstance(stored, dict)
        return typed_config({str(key): value for key, value in stored.items()})
    except Exception as error:
        raise RunDirectoryError(
            f"{directory.config} is not the configuration of a run ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). It was changed or damaged; start the run again in a new directory."
        ) from error


def typed_config(stored: Mapping[str, Any]) -> tuple[DictConfig, dict[str, str]]:
    """The content of a config.yaml as a configuration of the schema, and the names of its parts."""
    names = {str(key): str(value) for key, value in stored["names"].items()}
    values = {key: value for key, value in stored.items() if key != "names"}
    cfg = OmegaConf.merge(OmegaConf.structured(schema.Root), values)
    assert isinstance(cfg, DictConfig)
    return cfg, names


def guarded(action: Callable[[], int]) -> int:
    """Run `action`; show an error that a user can mend as one message, and return 1.

    With HYDRA_FULL_ERROR=1 the traceback is shown instead.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on to us instead of printing them
    try:
        code = action()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Continue with `resume=RUN_DIR`.\n")
        return 130
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if full:
            raise
        sys.stderr.write(f"Error: {explain(error)}\n")
        return 1
    except BrokenPipeError:  # `... | head` has read enough; Python would complain when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if full:
            raise
        sys.stderr.write(
            f"Error: {error.filename or 'A file'} cannot be used: {error.strerror or error}. Choose another place, for "
            "run directories with `paths.output_dir=...`.\n"
        )
        return 1
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1" if full else "0"


def explain(error: BaseException) -> str:
    """One message for an exception of ours, Hydra's or OmegaConf's."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for cause in chain:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.key is not None:
            return _explain_key(cause)
    ours = [cause for cause in chain if isinstance(cause, UserError)]
    if ours:
        return str(ours[0])
    lines = [str(cause).strip() for cause in chain if str(cause).strip()]
    details = dict.fromkeys(line.strip() for text in lines for line in text.splitlines())
    return "\n  ".join(line for line in details if line and not line.startswith(NOISE))


NOISE = ("object_type=", "reference_type=", "Config search path", "provider=")


def _explain_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    parent: Any = error.parent_node
    fields = getattr(error.object_type, "__dataclass_fields__", None)
    valid = [str(key) for key in (fields or (parent if isinstance(parent, DictConfig) else ())) if key != "hydra"]
    full = str(error.full_key or error.key)
    return unknown_key(str(error.key), valid, full.rpartition(".")[0])


def _names(choices: Mapping[str, Any]) -> dict[str, str]:
    return {group: str(choices.get(group)) for group in GROUPS}


def _wants_retry(given: Sequence[str]) -> bool:
    if given and given[-1] not in ("retry=true", "retry=false"):
        raise ConfigError(f"`retry` should be true or false. Found `{given[-1]}`.")
    return "retry=true" in given[-1:]


OTHER_SWEEPERS = (
    "hydra.sweep.dir='${paths.output_dir}/${experiment_name}/sweep/${now:%Y%m%dT%H%M%S_%f}'",
    "hydra.sweep.subdir='${hydra:job.num}'",
)
"""Sweepers that choose jobs on the way cannot continue a directory; later arguments override these."""


def _train(arguments: list[str]) -> int:
    from mtl.config.multirun import is_multirun, multirun

    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        others = [argument for argument in arguments if not argument.startswith("resume=")]
        if others or len(resumed) > 1:
            raise RunDirectoryError(
                f"`resume` takes everything from the run directory. Found also: {' '.join(others or resumed[1:])}. "
                "Leave that out, or start a new run."
            )
        resume_run(Path(resumed[0].partition("=")[2]).resolve())
        return 0
    retry = [argument for argument in arguments if argument.startswith("retry=")]
    arguments = [argument for argument in arguments if argument not in retry]
    for argument in arguments:
        group, assigned, choice = argument.partition("=")
        if assigned and group in GROUPS and choice in ("", "null"):
            raise ConfigError(f"`{group}` needs a choice; see the groups in `--help`. Found `{argument}`.")
    schema.register()
    identity.register()
    if is_multirun(arguments):
        code = multirun(arguments, retry=_wants_retry(retry))
        if code is not None:
            return code
        arguments = [*OTHER_SWEEPERS, *arguments]
    elif retry:
        raise ConfigError(f"`{retry[0]}` is for sweeps, with -m.")
    decorated = hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="train")(_job)
    saved, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        decorated()
    finally:
        sys.argv = saved
    return 0


def _job(cfg: DictConfig) -> float | None:
    """One job of Hydra's; returns the validation score for sweepers.

    None without a validation split; a finite worst value if the run diverged or its score is undefined.
    """
    config = HydraConfig.get()
    names = _names(config.runtime.choices)
    path = Path(config.runtime.output_dir)
    summary = run(build_spec(cfg, names), path, config_text(cfg, names))
    if summary["status"] == "diverged":
        return -1e9
    selection = summary["selection"]
    if selection["validation_score"] is None:
        return -1e9 if "undefined_tasks" in selection else None
    return float(selection["validation_score"])
