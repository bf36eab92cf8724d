"""One job of a sweep, from its frozen configuration: started, continued, or left alone."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from mtl.config.build import build_spec, config_text
from mtl.config.entry import explain, typed_config
from mtl.errors import BusyRunError, UserError
from mtl.sweeps.state import DONE, Attempts, State, read_status
from mtl.training import run
from mtl.training.run_directory import RunDirectory

OWN_THREADS = torch.get_num_threads()
"""Of this process, if nothing is said."""


def work(path: Path, config: Mapping[str, Any], threads: int | None = None) -> State:
    """Bring a job to its end, whatever there is of it already; an exception ends as the state `failed`.

    A job that has its result, or that another process works on, is left alone.

    Args:
        path: The run directory.
        config: Frozen content of its config.yaml.
        threads: For the CPU, unless `trainer.num_threads` says otherwise; a job that has begun keeps its number.
    """
    state = read_status(path).state
    if state in DONE or state is State.RUNNING:
        return state
    path.mkdir(parents=True, exist_ok=True)
    attempts = Attempts(path)
    attempts.started()
    try:
        cfg, names = typed_config(config)
        spec = build_spec(cfg, names)
        text = config_text(cfg, names)
        RunDirectory(path).reserve(text)
        if spec.trainer.num_threads is None:
            torch.set_num_threads(threads or OWN_THREADS)  # an earlier job may have left another number
        summary = run(spec, path, text, resume=True)
    except BusyRunError:
        return State.RUNNING
    except Exception as error:
        traceback.print_exc()
        user_error = isinstance(error, UserError)
        attempts.failed(explain(error) if user_error else f"{type(error).__name__}: {error}")
        return State.FAILED
    return State(summary["status"])


def frozen(config_yaml: str) -> dict[str, Any]:
    """The content of a config.yaml as plain data, for a manifest."""
    config = OmegaConf.to_container(OmegaConf.create(config_yaml))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
