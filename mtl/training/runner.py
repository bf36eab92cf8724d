"""One run from parts to summary."""

import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mtl.datasets.base import TensorLoader
from mtl.errors import ConfigError, NonFiniteError, RunDirectoryError
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.tracking import JsonlTracker, Tracker, WandbTracker, last_checkpoint, make_progress
from mtl.training.checkpoint import load_checkpoint
from mtl.training.evaluator import evaluate
from mtl.training.process import prepare_process
from mtl.training.provenance import config_hash, git_state, setting_hash, versions
from mtl.training.run_directory import RunDirectory
from mtl.training.selection import check_selection, select, validation_score
from mtl.training.spec import RunSpec
from mtl.training.trainer import Trainer, planned_steps


def run(spec: RunSpec, path: Path, config_yaml: str, resume: bool = False) -> dict[str, Any]:
    """Do one run in one directory, and return its summary.

    Everything is built and checked before the directory is claimed and data is read. A run that diverges ends with the
    status `diverged`, which is a result; any other exception is recorded as `failed` and raised.

    Args:
        spec: The parts.
        path: The run directory: new, or one to resume.
        config_yaml: The resolved configuration, as text for config.yaml.
        resume: Continue the run that `path` holds.
    """
    device = prepare_process(spec.trainer, spec.seed)
    objective = _build_objective(spec, device)
    schedulers = _set_up_strategy(spec, objective)
    directory = RunDirectory(path)
    state: Mapping[str, Any] | None = None
    identity = {"config_hash": config_hash(spec.config), "seed": spec.seed}
    if resume:
        state = _load_resumable(directory, identity)
    else:
        directory.claim(config_yaml)
    try:
        loaders = _load_data(spec, objective)
        check_selection(spec.trainer.selection, "val" in loaders)
        steps_done = state["position"]["step"] if state else 0
        with _open_trackers(spec, directory, len(loaders["train"]), steps_done, resume) as trackers:
            trainer = Trainer(
                objective,
                spec.strategy,
                schedulers,
                spec.scheduler_interval,
                loaders,
                spec.trainer,
                spec.tracking.log_every_steps,
                directory.checkpoint,
                trackers,
                identity,
            )
            if state:
                trainer.load_state_dict(state)
                event = last_checkpoint(directory.record, steps_done) or {}
                trainer.train_seconds = float(event.get("train_seconds", 0.0))  # type: ignore[arg-type]
            trainer.log(
                {"event": "start", "step": steps_done, "description": _describe(spec, objective, path, trainer)}
            )
            if state is None:
                trainer.save()
            return _fit(spec, directory, trainer)
    except Exception as error:
        if directory.finished() is None:
            directory.write_summary(_failure(spec, error))
        raise


def evaluate_run(spec: RunSpec, path: Path) -> dict[str, Any]:
    """Metrics and losses of a run's last checkpoint on its evaluation splits."""
    objective = _build_objective(spec, prepare_process(spec.trainer, spec.seed))
    state = load_checkpoint(RunDirectory(path).checkpoint)
    objective.model.load_state_dict(state["model"])
    result: dict[str, Any] = {"step": state["position"]["step"], "metrics": {}, "losses": {}}
    for split, loader in _load_data(spec, objective).items():
        if split != "train":
            result["metrics"][split], result["losses"][split] = evaluate(objective.model, objective.specs, loader)
    return result


def _build_objective(spec: RunSpec, device: torch.device) -> MultiTaskObjective:
    model = build_model(spec.backbone, spec.head, spec.data.tasks, spec.data.input_shape, spec.seed)
    return MultiTaskObjective(model.to(device), spec.data.tasks, spec.data.input_shape)


def _load_data(spec: RunSpec, objective: MultiTaskObjective) -> dict[str, TensorLoader]:
    return {
        split: TensorLoader(
            data.select(objective.tasks).to(objective.device),
            spec.data.batch_size if split == "train" else spec.data.eval_batch_size,
            shuffle=split == "train",
            drop_last=split == "train" and spec.data.drop_last,
            seed=spec.seed,
        )
        for split, data in spec.data.load().items()
    }


def _set_up_strategy(spec: RunSpec, objective: MultiTaskObjective) -> list[Any]:
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, "strategy"))
    spec.strategy.setup(objective, spec.make_optimizer, generator)
    if spec.make_scheduler is None:
        return []
    schedulers = [spec.make_scheduler(optimizer) for optimizer in spec.strategy.optimizers]
    if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
        raise ConfigError("ReduceLROnPlateau looks at a metric; use a scheduler that depends on the step alone.")
    return schedulers


def _load_resumable(directory: RunDirectory, identity: Mapping[str, Any]) -> Mapping[str, Any]:
    directory.check_resumable()
    state = load_checkpoint(directory.checkpoint)
    found = state.get("identity")
    if found != identity:
        raise RunDirectoryError(
            f"The checkpoint in {directory.path} was written for {found}, its config.yaml says {dict(identity)}. "
            "One of the two was changed or belongs to another run; restore it, or start a new run."
        )
    directory.summary.unlink(missing_ok=True)
    return state


@contextmanager
def _open_trackers(
    spec: RunSpec, directory: RunDirectory, steps_per_epoch: int, steps_done: int, resume: bool
) -> Iterator[list[Tracker]]:
    trackers: list[Tracker] = []
    names = spec.names
    try:
        trackers.append(JsonlTracker(directory.record, steps_done if resume else None))
        if spec.tracking.wandb:
            group = f"{names['dataset']}/{names['backbone']}/{names['strategy']}"
            tags = [names["dataset"], names["strategy"]]
            trackers.append(WandbTracker(spec.tracking, directory.path, spec.config, group, f"seed={spec.seed}", tags))
        label = f"{names['dataset']} {names['strategy']} seed {spec.seed}"
        progress = make_progress(
            spec.tracking.progress, label, planned_steps(spec.trainer, steps_per_epoch), steps_done
        )
        if progress is not None:
            trackers.append(progress)
        yield trackers
    finally:
        for tracker in reversed(trackers):
            tracker.close()


def _fit(spec: RunSpec, directory: RunDirectory, trainer: Trainer) -> dict[str, Any]:
    status, message = "completed", None
    try:
        trainer.fit()
    except NonFiniteError as error:
        status, message = "diverged", f"step {trainer.step + 1}: {error}"
    summary = _summarize(spec, trainer, status, message)
    trainer.log(
        {
            "event": "end",
            "step": trainer.step,
            "status": status,
            "message": message,
            "metrics": summary["metrics"],
            "cost": summary["cost"],
            "description": f"{status}{f' at {message}' if message else ''}; results in {directory.path}",
        }
    )
    directory.write_summary(summary)
    return summary


def _summarize(spec: RunSpec, trainer: Trainer, status: str, message: str | None) -> dict[str, Any]:
    specs = trainer.objective.specs
    metrics, epoch = select(spec.trainer.selection, trainer.history, specs)
    steps = max(trainer.step, 1)
    peak = (
        torch.cuda.max_memory_allocated()
        if trainer.objective.device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    )
    cost = {
        "forwards": trainer.cost.forwards,
        "backwards": trainer.cost.backwards,
        "backbone_backwards": trainer.cost.backbone_backwards,
        "optimizer_steps": trainer.cost.optimizer_steps,
        "samples": trainer.cost.samples,
        "step_seconds": trainer.train_seconds / steps,
        "train_seconds": trainer.train_seconds,
        "peak_memory_bytes": peak,
    }
    score = None
    if metrics and "val" in metrics:
        score = validation_score(metrics, specs)
    return {
        **_head(spec, status, message),
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "metrics": metrics,
        "selection": {"rule": spec.trainer.selection, "epoch": epoch, "validation_score": score},
        "cost": cost,
    }


def _head(spec: RunSpec, status: str, message: str | None) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        **{key: spec.names[key] for key in ("experiment", "dataset", "backbone", "heads", "strategy", "optimizer")},
        "seed": spec.seed,
        "tasks": {
            task.name: {
                name: {"higher_is_better": task.higher_is_better(name), "primary": name == task.primary_metric}
                for name in task.metrics
            }
            for task in spec.data.tasks
        },
        "git": git_state(),
        "config_hash": config_hash(spec.config),
        "setting_hash": setting_hash(spec.config),
        "versions": versions(),
    }


def _failure(spec: RunSpec, error: Exception) -> dict[str, Any]:
    head = _head(spec, "failed", f"{type(error).__name__}: {error}")
    return {**head, "epochs": 0, "steps": 0, "metrics": {}, "selection": None, "cost": {}}


def _describe(spec: RunSpec, objective: MultiTaskObjective, path: Path, trainer: Trainer) -> str:
    names = spec.names
    start = f", continued at step {trainer.step}" if trainer.step else ""
    return (
        f"{names['dataset']} | {names['backbone']} + {names['heads']} | {names['strategy']} | {names['optimizer']} | "
        f"seed {spec.seed} | {trainer.total_steps} steps on {objective.device}{start}\n"
        f"{objective.partition.describe()}\nrun directory: {path}"
    )
