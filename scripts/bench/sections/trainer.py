"""What the trainer costs around the steps: record, progress display, checks of losses and gradients."""

import itertools
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from bench.problem import LENET, UNET, Problem, Setting
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, clock_name, timed
from mtl.datasets.base import Loader, TensorSplit
from mtl.diagnostics import Recorder
from mtl.tracking import JsonlTracker, make_progress
from mtl.training.trainer import Trainer

NAME = "trainer"
STEPS = {"lenet": 40, "unet": 20}
"""Of one epoch, which is a turn: a whole number of times the steps between two lines of the record."""
SETTINGS = {"lenet": LENET, "unet": UNET}
BARS = {"lenet": 1.02, "unet": 1.005}


def _loader(setting: Setting, problem: Problem, steps: int) -> Loader:
    """The problem's batch, so many times."""

    def repeated(tensor: Tensor) -> Tensor:
        return tensor.repeat(steps, *[1] * (tensor.dim() - 1))

    targets = {name: repeated(target) for name, target in problem.batch.targets.items()}
    split = TensorSplit(repeated(problem.batch.inputs), targets)
    return Loader(split, setting.batch_size, shuffle=True, drop_last=True)


def whole(setting: Setting, steps: int) -> Contender:
    """An epoch of `Trainer.fit`: its own account of the seconds, which leaves out evaluation and checkpoint."""
    problem = Problem(setting)
    strategy, spec = problem.strategy(), problem.spec
    loaders = {"train": _loader(setting, problem, steps), "test": _loader(setting, problem, 1)}
    place = tempfile.TemporaryDirectory(prefix="mtl-bench-")
    settings = replace(spec.trainer, max_epochs=1)
    assert steps % spec.tracking.log_every_steps == 0, "a turn should record as many steps as a run does"
    epochs = itertools.count()

    def turn() -> float:
        directory = Path(place.name)
        with (
            Path(os.devnull).open("w") as nothing,
            redirect_stdout(nothing),
            mock.patch.dict(os.environ, FORCE_COLOR="1"),
        ):
            trackers = [JsonlTracker(directory / "metrics.jsonl")]
            progress = make_progress("bar", "benchmark", steps, 0)
            assert progress is not None
            diagnostics = spec.tracking.diagnostics
            trainer = Trainer(
                problem.objective,
                strategy,
                [],
                "epoch",
                loaders,
                settings,
                spec.tracking.log_every_steps,
                Recorder(problem.objective, strategy, diagnostics.every, diagnostics.path, diagnostics.shares),
                directory / "last.pt",
                [*trackers, progress],
                {},
            )
            trainer.log({"event": "start", "step": 0, "description": f"epoch {next(epochs)}"})
            trainer.fit()
            for tracker in (*trackers, progress):
                tracker.close()
        seconds = trainer.train_seconds if clock_name() == "wall" else trainer.train_cpu_seconds
        return seconds / trainer.step

    return Contender(turn)


def loop(setting: Setting, steps: int) -> Contender:
    """The same epoch by hand."""
    problem = Problem(setting)
    optimizer, loader = problem.optimizer(), _loader(setting, problem, steps)

    def run() -> int:
        count = 0
        for batch in loader.batches(0):
            optimizer.zero_grad()
            problem.batch = batch
            _, losses = problem.forward()
            torch.stack(losses).sum().backward()
            optimizer.step()
            count += 1
        return count

    return timed(run, calls=1)


def build(name: str) -> Contender:
    """`whole:SETTING` or `loop:SETTING`."""
    kind, _, key = name.partition(":")
    factory: Callable[[Setting, int], Contender] = {"whole": whole, "loop": loop}[kind]
    return factory(SETTINGS[key], STEPS[key])


SECTION = Section(
    "The whole trainer",
    "`uniform` through `Trainer.fit` with the record on disk and a live progress bar, checks of losses and "
    "gradients included, against a loop of forward, backward and fused Adam over the same loader. Per step; "
    "evaluation and checkpoints, which belong to epochs, are not in it.",
    [
        Row(NAME, f"{SETTINGS[key].name}: trainer / bare loop", f"whole:{key}", f"loop:{key}", BARS[key])
        for key in SETTINGS
    ],
    build,
    limit=38,
)
