"""The loop. It knows batches, epochs and one type, Strategy; it never touches a gradient or an optimizer's step."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from mtl.datasets.base import Loader
from mtl.diagnostics import Recorder
from mtl.errors import NonFiniteError
from mtl.objective import MultiTaskObjective
from mtl.strategies import StepCost, StepReport, Strategy
from mtl.tracking import Event, Tracker
from mtl.training.checkpoint import rng_state, save_checkpoint, set_rng_state
from mtl.training.evaluator import evaluate
from mtl.training.selection import select
from mtl.training.settings import TrainerSettings


class _Clock(NamedTuple):
    """Seconds that passed, and seconds that all threads of this process computed."""

    wall: float
    cpu: float

    @classmethod
    def read(cls) -> "_Clock":
        return cls(time.perf_counter(), time.process_time())


class Trainer:
    """Trains one model with one strategy, from a fresh start or from a checkpoint.

    Its position is (epoch, batch of the epoch, step); together with the states of model, strategy, schedulers and
    generators that is all a continued run needs to produce the same bits.

    Args:
        objective: Model and tasks.
        strategy: Set up on the objective.
        schedulers: One per optimizer of the strategy.
        scheduler_interval: `epoch` or `step`.
        loaders: "train", "test" and possibly "val".
        settings: Loop settings.
        log_every_steps: A `step` event each n-th step.
        recorder: Measures at some steps; its time is not billed to training.
        checkpoint: Where checkpoints go.
        trackers: Receivers of events.
        identity: Stored in the checkpoint and compared on resume.
    """

    def __init__(
        self,
        objective: MultiTaskObjective,
        strategy: Strategy,
        schedulers: Sequence[LRScheduler],
        scheduler_interval: str,
        loaders: Mapping[str, Loader],
        settings: TrainerSettings,
        log_every_steps: int,
        recorder: Recorder,
        checkpoint: Path,
        trackers: Sequence[Tracker],
        identity: Mapping[str, Any],
    ) -> None:
        self.objective = objective
        self.strategy = strategy
        self.schedulers = schedulers
        self.scheduler_interval = scheduler_interval
        self.loaders = loaders
        self.settings = settings
        self.log_every_steps = log_every_steps
        self.recorder = recorder
        self.checkpoint = checkpoint
        self.trackers = trackers
        self.identity = identity
        self.epoch = 0
        self.batch = 0
        self.step = 0
        self.cost = StepCost()
        self.history: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self.train_cpu_seconds = 0.0
        self._loss_sum = torch.zeros(objective.num_tasks, dtype=torch.float64, device=objective.device)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return planned_steps(self.settings, len(self.loaders["train"]))

    def log(self, event: Event) -> None:
        """Send an event to all trackers."""
        for tracker in self.trackers:
            tracker.log(event)

    def fit(self) -> None:
        """Train to the end, evaluating, recording and saving on the way.

        Raises:
            NonFiniteError: a loss, gradient or weight became NaN or infinite; nothing was changed with it.
        """
        self.objective.model.train()
        while self.step < self.total_steps:
            self._train_epoch()
            finished = self.batch == len(self.loaders["train"])
            if finished:
                self.strategy.end_epoch()
                if self.scheduler_interval == "epoch":
                    self._advance_schedulers()
                self.epoch += 1
            if self.step == self.total_steps or (finished and self.epoch % self.settings.eval_every_epochs == 0):
                self._evaluate()
            if finished:
                self.batch = 0
                self._loss_sum.zero_()
            self.save()

    def _train_epoch(self) -> None:
        """The rest of the current epoch, or of the run."""
        every = self.settings.checkpoint_every_steps
        started = _Clock.read()
        for batch in self.loaders["train"].batches(self.epoch, self.batch):
            looks = self.recorder.looks(self.step + 1)
            if looks:
                self._add_time_since(started)
                self.recorder.before(batch, self.step + 1)
                started = _Clock.read()
            report = self.strategy.step(batch)
            self.recorder.stepped()
            self.batch += 1
            self.step += 1
            self.cost = self.cost + report.cost
            self._loss_sum += report.losses
            if self.scheduler_interval == "step":
                self._advance_schedulers()
            if self.step % self.log_every_steps == 0:
                self._log_step(report)
            if looks:
                self._add_time_since(started)
                found = self.recorder.after(report)
                if found is not None:
                    self.log({"event": "diagnostics", "step": self.step, "epoch": self.epoch, **found})
                started = _Clock.read()
            if self.step == self.total_steps:
                break
            if every is not None and self.step % every == 0 and self.batch < len(self.loaders["train"]):
                self._add_time_since(started)
                self.save()
                started = _Clock.read()
        self._add_time_since(started)

    def _add_time_since(self, started: "_Clock") -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = _Clock.read()
        self.train_seconds += now.wall - started.wall
        self.train_cpu_seconds += now.cpu - started.cpu

    def _advance_schedulers(self) -> None:
        with warnings.catch_warnings():  # an optimizer of a task that leads no group is never stepped
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for scheduler in self.schedulers:
                scheduler.step()

    def _log_step(self, report: StepReport) -> None:
        tasks = self.objective.tasks
        event: dict[str, Any] = {
            "event": "step",
            "step": self.step,
            "epoch": self.epoch,
            "losses": _by_task(tasks, report.losses),
            "lr": self.strategy.optimizers[0].param_groups[0]["lr"],
        }
        if report.weights is not None:
            event["weights"] = _by_task(tasks, report.weights)
        if report.groups is not None:
            event["groups"] = [[tasks[task] for task in group] for group in report.groups]
        if report.gramian is not None:
            event["gradient_norms"] = _by_task(tasks, report.gramian.diagonal().clamp_min(0).sqrt())
        if report.diagnostics:
            event["diagnostics"] = dict(report.diagnostics)
        self.log(event)

    def _check_parameters(self) -> None:
        """A loss tells of the parameters before its step; those after the last one are looked at here."""
        bad = [name for name, p in self.objective.model.named_parameters() if not torch.isfinite(p.sum())]
        if bad:
            raise NonFiniteError(f"The last update made {bad[0]} non-finite. Lower the learning rate.")

    def _evaluate(self) -> None:
        self._check_parameters()
        started = time.perf_counter()
        metrics, losses = {}, {"train": _by_task(self.objective.tasks, self._loss_sum / max(self.batch, 1))}
        for split, loader in self.loaders.items():
            if split != "train":
                metrics[split], losses[split] = evaluate(self.objective.model, self.objective.specs, loader)
        epoch = self.step / len(self.loaders["train"])
        entry = {"step": self.step, "epoch": int(epoch) if epoch.is_integer() else epoch, "metrics": metrics}
        self.history.append(entry)
        rule = self.settings.selection
        if rule == "best_val" and select(rule, self.history, self.objective.specs)[0] is metrics:
            position = {"position": {"epoch": entry["epoch"], "step": self.step}}
            best = {**position, "model": self.objective.model.state_dict()}
            save_checkpoint(self.checkpoint.with_name("best.pt"), best)
        seconds = time.perf_counter() - started
        self.log(
            {"event": "evaluation", **entry, "epochs": self.settings.max_epochs, "losses": losses, "seconds": seconds}
        )

    def save(self) -> None:
        """Write a checkpoint; its line in the record carries the times, which it does not."""
        times = {"train_seconds": self.train_seconds, "train_cpu_seconds": self.train_cpu_seconds}
        self.log({"event": "checkpoint", "step": self.step, **times})
        save_checkpoint(self.checkpoint, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; no times, so that it is a function of the configuration."""
        return {
            "identity": dict(self.identity),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "model": self.objective.model.state_dict(),
            "strategy": self.strategy.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "rng": rng_state(self.objective.device),
            "loss_sum": self._loss_sum,
            "cost": asdict(self.cost),
            "history": self.history,
            **self.recorder.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of the same configuration."""
        self.epoch, self.batch, self.step = (state["position"][key] for key in ("epoch", "batch", "step"))
        self.objective.model.load_state_dict(state["model"])
        self.strategy.load_state_dict(state["strategy"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self._loss_sum.copy_(state["loss_sum"])
        self.cost = StepCost(**state["cost"])
        self.history = list(state["history"])
        self.recorder.load_state_dict(state)
        set_rng_state(state["rng"], self.objective.device)


def planned_steps(settings: TrainerSettings, steps_per_epoch: int) -> int:
    """Steps of a whole run: all epochs, or fewer if `max_steps` says so."""
    steps = settings.max_epochs * steps_per_epoch
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def _by_task(tasks: Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(tasks, values.tolist(), strict=True))
