"""The commands that make the single-task runs which a directory of runs lacks."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtl.config.build import GROUPS, build_spec
from mtl.config.entry import compose_config, read_config
from mtl.errors import UserError
from mtl.identity import EQUAL, UNNUMERIC
from mtl.results.plan import SCRIPT
from mtl.results.runs import Run
from mtl.training.provenance import setting_hash
from mtl.training.run_directory import RunDirectory

_FIXED = ("dataset", "backbone", "heads", "optimizer", "scheduler", "trainer")
"""Parts of a configuration that a single-task run takes over."""
_PLAIN = re.compile(r"[\w./+-]+")


def baseline_commands(runs: Sequence[Run]) -> list[str]:
    """One command a setting that has multi-task runs and lacks completed single-task runs of some of their tasks.

    The command is composed on trial: it has the setting of the runs, or the run is named whose configuration to use.
    """
    commands = []
    for setting in sorted({run.setting_hash for run in runs}):
        same = [run for run in runs if run.setting_hash == setting]
        several = [run for run in same if not run.is_single_task]
        have = {task for run in same if run.is_single_task and run.completed for task in run.tasks}
        missing = list(dict.fromkeys(task for run in several for task in run.tasks if task not in have))
        if missing:
            seeds = sorted({run.seed for run in several})
            commands.append(
                _command(min(several, key=lambda run: (run.strategy != "uniform", str(run.path))), missing, seeds)
            )
    return commands


def _command(run: Run, tasks: Sequence[str], seeds: Sequence[int]) -> str:
    chosen = [f"dataset.tasks={','.join(f'[{task}]' for task in tasks)}", f"seed={','.join(map(str, seeds))}"]
    try:
        overrides = setting_overrides(run)
    except (UserError, HydraException, OmegaConfBaseException):
        return f"{SCRIPT} {shlex.join(chosen)}   # and everything else as in {run.path / 'config.yaml'}"
    named = [f"experiment_name={run.experiment}"] if run.experiment else []
    return f"{SCRIPT} {shlex.join([*named, 'strategy=uniform', *chosen, *overrides])}"


def setting_overrides(run: Run) -> list[str]:
    """Overrides of configs/train.yaml that give the setting and the optimizer of `run`.

    Raises:
        UserError: Its configuration cannot be read, or cannot be said with overrides.
    """
    stored, names = read_config(RunDirectory(run.path))
    groups = [f"{group}={names[group]}" for group in GROUPS if group != "strategy"]
    cfg, _ = compose_config(groups)
    wanted, found = (_flat(OmegaConf.to_container(c, resolve=True)) for c in (stored, cfg))
    changed = {key: value for key, value in wanted.items() if key not in found or found[key] != value}
    changes = [f"{key}={_text(value)}" for key, value in changed.items() if key != "dataset.tasks"]
    composed, other = compose_config([*groups, *changes])
    if setting_hash(build_spec(composed, other).config) != run.setting_hash:
        raise UserError(f"The setting of {run.path} is not that of {' '.join([*groups, *changes])}.")
    return [*_changed_groups(groups), *changes]


def _changed_groups(groups: Sequence[str]) -> list[str]:
    """Those choices that configs/train.yaml does not make itself."""
    _, defaults = compose_config([])
    return [choice for choice in groups if defaults[choice.partition("=")[0]] != choice.partition("=")[2]]


def _flat(config: Any) -> dict[str, Any]:
    """Dotted key -> leaf of what decides about numbers, except strategy and seed; lists are leaves."""
    flat: dict[str, Any] = {}

    def add(prefix: str, node: Mapping[str, Any]) -> None:
        for key, value in node.items():
            if key in UNNUMERIC:
                continue
            if isinstance(value, Mapping) and value:
                add(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = EQUAL.get(value, value) if isinstance(value, str) else value

    add("", {key: config[key] for key in _FIXED})
    return flat


def _text(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
