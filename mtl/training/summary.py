"""summary.json: what a run came to."""

import resource
import sys
from typing import Any

import torch

from mtl.training.provenance import code_digest, config_hash, git_state, setting_hash, versions
from mtl.training.selection import describe_selection
from mtl.training.spec import RunSpec
from mtl.training.trainer import Trainer


def head(spec: RunSpec, device: torch.device) -> dict[str, Any]:
    """What is known when a run starts: its parts, tasks, code and machine."""
    return {
        **{key: spec.names[key] for key in ("experiment", "dataset", "backbone", "heads", "strategy", "optimizer")},
        "seed": spec.seed,
        "tasks": {
            task.name: {
                name: {"higher_is_better": task.higher_is_better(name), "primary": name == task.primary_metric}
                for name in task.metrics
            }
            for task in spec.data.tasks
        },
        "options": {key: spec.config[key] for key in ("strategy", "optimizer")},
        "note": spec.strategy.note,
        "data_note": spec.data.note,
        "git": git_state(spec.plugins),
        "code": code_digest(),
        "config_hash": config_hash(spec.config),
        "setting_hash": setting_hash(spec.config),
        "versions": versions(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "num_threads": torch.get_num_threads(),
    }


def summarize(spec: RunSpec, start: dict[str, Any], trainer: Trainer | None, status: str, message: str | None) -> Any:
    """The whole summary. Without a trainer (data could not be read) it has no results.

    Args:
        spec: The parts.
        start: `head` of this run, taken when it started.
        trainer: With whatever was reached.
        status: completed, diverged or failed.
        message: Why, unless completed.
    """
    result: dict[str, Any] = {"status": status, "message": message, **start}
    if trainer is None:
        return {**result, "epochs": 0, "steps": 0, "metrics": {}, "selection": None, "cost": {}}
    metrics, selection = describe_selection(spec.trainer.selection, trainer.history, trainer.objective.specs)
    cost = trainer.cost
    return {
        **result,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "metrics": metrics,
        "selection": selection,
        "data": trainer.identity["data"],
        "cost": {
            "forwards": cost.forwards,
            "backwards": cost.backwards,
            "backbone_backwards": cost.backbone_backwards,
            "optimizer_steps": cost.optimizer_steps,
            "samples": cost.samples,
            "step_seconds": trainer.train_seconds / max(trainer.step, 1),
            "train_seconds": trainer.train_seconds,
            "train_cpu_seconds": trainer.train_cpu_seconds,
            "peak_memory_bytes": _peak_memory(trainer.objective.device),
        },
    }


def _peak_memory(device: torch.device) -> int:
    """Of this run on CUDA; of the whole process, earlier runs included, on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
