"""One run from parts to summary."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtl.datasets.base import Loader
from mtl.diagnostics import Recorder
from mtl.errors import NonFiniteError, RunDirectoryError
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.tracking import JsonlTracker, Tracker, WandbTracker, first_start, last_checkpoint, make_progress, read_events
from mtl.training import summary
from mtl.training.checkpoint import load_checkpoint
from mtl.training.evaluator import evaluate
from mtl.training.process import prepare_process
from mtl.training.provenance import config_hash
from mtl.training.run_directory import RunDirectory
from mtl.training.selection import check_selection
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
        resume: Continue the run that `path` holds; from its start, if it was stopped before its first checkpoint. A
            completed one, and one that another process completes meanwhile, is left as it is.
    """
    spec.data.check()
    directory = RunDirectory(path)
    if resume:
        _keep_threads(spec, directory)
    device = prepare_process(spec.trainer, spec.seed)
    objective = _build_objective(spec, device)
    if spec.trainer.compile:
        objective.model.compile_backbone()
    schedulers = _set_up_strategy(spec, objective)
    start = summary.head(spec, device)
    if not resume:
        directory.claim(config_yaml)
    with directory.locked():
        done = directory.finished() if resume else None
        if done is not None and done["status"] == "completed":
            return done
        state = _load_resumable(directory, _identity(spec)) if resume else None
        trainer: Trainer | None = None
        try:
            loaders, fingerprint = _load_data(spec, objective)
            check_selection(spec.trainer.selection, "val" in loaders)
            if state is not None and state["identity"]["data"] != fingerprint:
                raise RunDirectoryError(
                    f"The data differ from those that {path} was trained on (fingerprint {fingerprint[:12]}, then "
                    f"{state['identity']['data'][:12]}). Restore them, or start a new run."
                )
            spec.strategy.attach(loaders)
            steps_done = state["position"]["step"] if state else 0
            diagnostics = spec.tracking.diagnostics
            recorder = Recorder(objective, spec.strategy, diagnostics.every, diagnostics.path, diagnostics.shares)
            resume_step = steps_done if state else None
            with _open_trackers(spec, start, directory, len(loaders["train"]), resume_step) as trackers:
                trainer = Trainer(
                    objective,
                    spec.strategy,
                    schedulers,
                    spec.scheduler_interval,
                    loaders,
                    spec.trainer,
                    spec.tracking.log_every_steps,
                    recorder,
                    directory.checkpoint,
                    trackers,
                    {**_identity(spec), "data": fingerprint},
                )
                if state is not None:
                    trainer.load_state_dict(state)
                    event = last_checkpoint(directory.record, steps_done) or {}
                    trainer.train_seconds = float(event.get("train_seconds", 0.0))  # type: ignore[arg-type]
                    trainer.train_cpu_seconds = float(event.get("train_cpu_seconds", 0.0))  # type: ignore[arg-type]
                description = _describe(spec, objective, path, trainer)
                known = {key: start[key] for key in ("git", "code", "versions", "device", "num_threads", "tasks")}
                known |= {"description": description, "total_steps": trainer.total_steps}
                trainer.log({"event": "start", "step": steps_done, **known})
                if state is None:
                    trainer.save()
                return _fit(spec, start, directory, trainer)
        except Exception as error:
            if directory.finished() is None:
                message = f"{type(error).__name__}: {error}"
                directory.write_summary(summary.summarize(spec, start, trainer, "failed", message))
            raise


@dataclass(frozen=True)
class LoadedRun:
    """A run as it was saved.

    Attributes:
        objective: Its network, with the weights of its best checkpoint if it selects one, else of its last.
        loaders: Of its splits.
        checkpoint: File name of the checkpoint.
        step: Optimizer steps before it.
    """

    objective: MultiTaskObjective
    loaders: Mapping[str, Loader]
    checkpoint: str
    step: int


def load_run(spec: RunSpec, path: Path) -> LoadedRun:
    """The network and the data of the run in `path`.

    Raises:
        RunDirectoryError: There is no checkpoint, or config.yaml or the data are not those the run was trained with.
    """
    spec.data.check()
    objective = _build_objective(spec, prepare_process(spec.trainer, spec.seed))
    _set_up_strategy(spec, objective)  # a method may stand between backbone and heads
    directory = RunDirectory(path)
    state = _load_resumable(directory, _identity(spec))
    if state is None:
        raise RunDirectoryError(f"{path} has no checkpoint yet. Continue it with `resume={path}`.")
    chosen = directory.best if directory.best.is_file() else directory.checkpoint
    saved = load_checkpoint(chosen)
    objective.model.load_state_dict(saved["model"])
    loaders, fingerprint = _load_data(spec, objective)
    if state["identity"]["data"] != fingerprint:
        raise RunDirectoryError(f"The data differ from those that {path} was trained on. Restore them.")
    return LoadedRun(objective, loaders, chosen.name, saved["position"]["step"])


def evaluate_run(spec: RunSpec, path: Path) -> dict[str, Any]:
    """Metrics and losses of a run on its evaluation splits; for the checkpoint and the errors see `load_run`."""
    loaded = load_run(spec, path)
    objective = loaded.objective
    result: dict[str, Any] = {"checkpoint": loaded.checkpoint, "step": loaded.step, "metrics": {}, "losses": {}}
    for split, loader in loaded.loaders.items():
        if split != "train":
            result["metrics"][split], result["losses"][split] = evaluate(objective.model, objective.specs, loader)
    return result


def _identity(spec: RunSpec) -> dict[str, Any]:
    return {"config_hash": config_hash(spec.config), "seed": spec.seed}


def _build_objective(spec: RunSpec, device: torch.device) -> MultiTaskObjective:
    model = build_model(spec.backbone, spec.head, spec.data.tasks, spec.data.input_shape, spec.seed)
    objective = MultiTaskObjective(model.to(device), spec.data.tasks, spec.data.input_shape)
    model.use_precision(spec.trainer.precision)
    return objective


def _load_data(spec: RunSpec, objective: MultiTaskObjective) -> tuple[dict[str, Loader], str]:
    """Loaders by split, and a fingerprint of everything in them."""
    loaders, digest = {}, hashlib.sha256()
    for split, data in sorted(spec.data.load().items()):
        chosen = data.select(objective.tasks)
        digest.update(f"{split} {chosen.fingerprint()}".encode())
        loaders[split] = Loader(
            chosen.to(objective.device),
            spec.data.batch_size if split == "train" else spec.data.eval_batch_size,
            shuffle=split == "train",
            drop_last=split == "train" and spec.data.drop_last,
            seed=spec.seed,
        )
    order = [split for split in ("train", "val", "test") if split in loaders]
    return {split: loaders[split] for split in order}, digest.hexdigest()


def _set_up_strategy(spec: RunSpec, objective: MultiTaskObjective) -> list[Any]:
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, "strategy"))
    spec.strategy.setup(objective, spec.make_optimizer, generator)
    if spec.make_scheduler is None:
        return []
    return [spec.make_scheduler(optimizer) for optimizer in spec.strategy.optimizers]


def _load_resumable(directory: RunDirectory, identity: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The checkpoint to continue from; None if the run was stopped before its first one."""
    directory.check_resumable()
    if not directory.checkpoint.exists():
        return None
    state = load_checkpoint(directory.checkpoint)
    found = {key: value for key, value in dict(state.get("identity") or {}).items() if key != "data"}
    if found != identity:
        raise RunDirectoryError(
            f"The checkpoint in {directory.path} was written for {found}, its config.yaml says {dict(identity)}. "
            "One of the two was changed or belongs to another run; restore it, or start a new run."
        )
    return state


def _keep_threads(spec: RunSpec, directory: RunDirectory) -> None:
    """Go on with the number of CPU threads that the run began with: another one would round its sums differently."""
    threads = first_start(directory.record).get("num_threads")
    if spec.trainer.num_threads is None and isinstance(threads, int):
        torch.set_num_threads(threads)


@contextmanager
def _open_trackers(
    spec: RunSpec, start: Mapping[str, Any], directory: RunDirectory, steps_per_epoch: int, resume_step: int | None
) -> Iterator[list[Tracker]]:
    """The record first, then its mirrors; each is closed, whatever happens to the others."""
    names = spec.names
    with ExitStack() as stack:
        trackers: list[Tracker] = []

        def add(tracker: Tracker) -> None:
            stack.callback(tracker.close)
            trackers.append(tracker)

        add(JsonlTracker(directory.record, resume_step))
        if spec.tracking.wandb:
            add(_mirror(spec, start, directory, resume_step is not None))
        label = f"{names['dataset']} {names['strategy']} seed {spec.seed}"
        steps = planned_steps(spec.trainer, steps_per_epoch)
        progress = make_progress(spec.tracking.progress, label, steps, resume_step or 0)
        if progress is not None:
            add(progress)
        yield trackers


def _mirror(spec: RunSpec, start: Mapping[str, Any], directory: RunDirectory, resumed: bool) -> WandbTracker:
    """The W&B run: grouped by everything but the seed."""
    names = spec.names
    experiment = [] if names["experiment"] == "default" else [names["experiment"]]
    parts = [*experiment, names["dataset"], names["backbone"], names["strategy"]]
    code = {key: start[key] for key in ("git", "code", "config_hash", "setting_hash", "versions", "device")}
    return WandbTracker(
        spec.tracking,
        directory.path,
        {**spec.config, "names": dict(names), **code},
        group="/".join(parts),
        name=f"seed={spec.seed}",
        tags=parts,
        directions={
            task.name: {metric: task.higher_is_better(metric) for metric in task.metrics} for task in spec.data.tasks
        },
        past=read_events(directory.record) if resumed else (),
    )


def _fit(spec: RunSpec, start: dict[str, Any], directory: RunDirectory, trainer: Trainer) -> dict[str, Any]:
    directory.summary.unlink(missing_ok=True)
    status, message = "completed", None
    try:
        trainer.fit()
    except NonFiniteError as error:
        status, message = "diverged", f"after {trainer.step} steps: {error}"
    result: dict[str, Any] = summary.summarize(spec, start, trainer, status, message)
    trainer.log(
        {
            "event": "end",
            "step": trainer.step,
            "status": status,
            "message": message,
            "metrics": result["metrics"],
            "cost": result["cost"],
            "description": f"{status}{f' {message}' if message else ''}; results in {directory.path}",
        }
    )
    directory.write_summary(result)
    return result


def _describe(spec: RunSpec, objective: MultiTaskObjective, path: Path, trainer: Trainer) -> str:
    names = spec.names
    start = f", continued at step {trainer.step}" if trainer.step else ""
    return (
        f"{names['dataset']} | {names['backbone']} + {names['heads']} | {names['strategy']} | {names['optimizer']} | "
        f"seed {spec.seed} | {trainer.total_steps} steps on {objective.device}{start}\n"
        f"{objective.partition.describe()}\nrun directory: {path}"
    )
