"""The command line of scripts/predictions.py: what runs predict for single samples, beside the ground truth."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mtl.config.build import build_spec
from mtl.config.entry import guarded, read_config
from mtl.datasets.packed_split import PackedSplit
from mtl.datasets.prepared import PreparedData
from mtl.errors import ConfigError, RunDirectoryError, UserError
from mtl.results.colours import DenseTask, Kind
from mtl.results.predictions import Column, draw_predictions
from mtl.results.runs import SINGLE_TASK, load_runs
from mtl.training import RunSpec, load_run, predict
from mtl.training.run_directory import RunDirectory

USAGE = "predictions.py run=DIR [run=DIR2 ...] or runs=DIR, [split=test] [samples=0,100,200] [out=FILE.png]"
KEYS = ("run", "runs", "split", "samples", "out")
SHOWN = 3
"""Samples without `samples=`, evenly over the split."""


@dataclass(frozen=True)
class Predictions:
    """One run's share of a picture.

    Attributes:
        path: The run directory.
        strategy: Name of its strategy config.
        seed: Its seed.
        tasks: How its tasks are shown.
        split: The data without normalisation.
        samples: Indices in the split.
        outputs: Task -> (len(samples), C, H, W).
    """

    path: Path
    strategy: str
    seed: int
    tasks: tuple[DenseTask, ...]
    split: PackedSplit
    samples: tuple[int, ...]
    outputs: dict[str, Tensor]


def predictions_main(arguments: Sequence[str]) -> int:
    """Draw what the arguments say; returns the exit code.

    - `run` a run directory, any number of them; or `runs` a directory of runs, of which the completed ones are drawn;
    - `split` `test` or `val`; `samples` indices in it, by default three, evenly over it;
    - `out` the picture, PNG and PDF; by default `predictions.png` in the working directory.
    """
    return guarded(lambda: _main(list(arguments)))


def _main(arguments: list[str]) -> int:
    values: dict[str, list[str]] = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in KEYS or not separator or not value or (key in values and key != "run"):
            raise ConfigError(
                f"Arguments should be KEY=VALUE out of {', '.join(KEYS)}, each but `run` once. Found `{argument}`.\n"
                f"{USAGE}"
            )
        values.setdefault(key, []).append(value)
    if ("run" in values) == ("runs" in values):
        raise ConfigError(f"Either `run=` or `runs=` is needed.\n{USAGE}")
    out = Path(values.get("out", ["predictions.png"])[0])
    if out.suffix not in (".png", ".pdf"):
        raise ConfigError(f"`out` should end in .png or .pdf; both are written. Found `out={out}`.")
    paths = [Path(value) for value in values["run"]] if "run" in values else _completed(Path(values["runs"][0]))
    written = draw_runs(paths, values.get("split", ["test"])[0], _parse_samples(values), out)
    sys.stdout.write("Written:\n" + "".join(f"  {path}\n" for path in written))
    return 0


def draw_runs(paths: Sequence[Path], split: str, samples: tuple[int, ...] | None, out: Path) -> tuple[Path, Path]:
    """Let runs predict and draw it; says on the terminal which run stands under which label.

    Args:
        paths: The run directories.
        split: Split of the samples.
        samples: Indices in it; evenly over it if None.
        out: Where to write; `.png` and `.pdf` stand for its suffix.

    Returns:
        Paths of the PNG and the PDF.

    Raises:
        UserError: A run's tasks are not dense, it has no such split or samples, or the runs have different data.
    """
    runs: list[Predictions] = []
    for path in paths:
        runs.append(_predict(path, split, samples))
        _check_same_data(runs[0], runs[-1], split)
    return _draw(runs, split, out)


def _parse_samples(values: dict[str, list[str]]) -> tuple[int, ...] | None:
    if "samples" not in values:
        return None
    words = values["samples"][0].split(",")
    if not all(word.isdecimal() for word in words):
        raise ConfigError(
            f"`samples` should be integers of at least 0, as 0,100,200. Found `samples={values['samples'][0]}`."
        )
    return tuple(int(word) for word in words)


def _completed(root: Path) -> list[Path]:
    found = load_runs(root)
    paths = [run.path for run in found if run.completed]
    if not paths:
        raise RunDirectoryError(f"Of the {len(found)} runs in {root} none is completed. Give one with `run=DIR`.")
    if len(paths) < len(found):
        sys.stdout.write(f"Left out: {len(found) - len(paths)} of {len(found)} runs, which are not completed.\n")
    return paths


def _predict(path: Path, split: str, samples: tuple[int, ...] | None) -> Predictions:
    """Load a run and let it predict.

    Raises:
        UserError: Its tasks are not dense, or it has no such split or samples.
    """
    directory = RunDirectory(path.resolve())
    directory.check_resumable()
    spec = build_spec(*read_config(directory))
    tasks = _dense_tasks(spec, path)
    loaded = load_run(spec, directory.path)
    evaluated = [name for name in loaded.loaders if name != "train"]
    if split not in evaluated:
        raise ConfigError(f"`split` should be one that {path} evaluates: {', '.join(evaluated)}. Found `{split}`.")
    loader = loaded.loaders[split]
    count = len(loader.split)
    if samples is None:
        samples = tuple(sorted({count * index // SHOWN for index in range(SHOWN)}))
    unknown = [sample for sample in samples if sample >= count]
    if unknown:
        raise ConfigError(
            f"`samples` should be below {count}, the number of samples of `{split}` in {path}. "
            f"Found {', '.join(map(str, unknown))}."
        )
    stored = loader.split
    assert isinstance(stored, PackedSplit)
    plain = replace(stored, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), bgr=False)
    outputs = predict(loaded.objective.model, loader, samples)
    return Predictions(path, spec.names["strategy"], spec.seed, tasks, plain, samples, outputs)


def _dense_tasks(spec: RunSpec, path: Path) -> tuple[DenseTask, ...]:
    data = spec.data
    flat = [task.name for task in data.tasks if not task.dense]
    if flat or not isinstance(data, PreparedData):
        raise ConfigError(
            f"Pictures are of tasks whose predictions are maps, as those of nyuv2 and cityscapes. {path} trained on "
            f"{spec.names['dataset']}, where {', '.join(flat[:3])} are not."
        )
    kinds: dict[str, Kind] = {"normals": "normals", "offsets": "offsets"}
    shown = []
    for task in data.tasks:
        quantity = data.quantities[task.name]
        if quantity != "labels":
            shown.append(DenseTask(task.name, kinds.get(quantity, "scalar")))
        elif task.num_outputs == 1:
            shown.append(DenseTask(task.name, "binary"))
        else:
            names = data.classes.get(task.name, tuple(f"class {index}" for index in range(task.num_outputs)))
            shown.append(DenseTask(task.name, "classes", names))
    return tuple(shown)


def _check_same_data(first: Predictions, other: Predictions, split: str) -> None:
    """Raise UserError unless both runs have the same images and, for tasks of both, the same ground truth."""
    differing = [
        task.name
        for task in other.tasks
        if task.name in first.outputs
        and first.split.select((task.name,)).fingerprint() != other.split.select((task.name,)).fingerprint()
    ]
    if differing or first.split.select(()).fingerprint() != other.split.select(()).fingerprint():
        what = f"the ground truth of {', '.join(differing)}" if differing else f"the images of split `{split}`"
        raise UserError(
            f"{first.path} and {other.path} do not have the same data: {what} differ. Draw runs of one data set, "
            "size and class set."
        )


def _draw(runs: Sequence[Predictions], split: str, out: Path) -> tuple[Path, Path]:
    longest = max(runs, key=lambda run: len(run.tasks))
    tasks = {task.name: task for run in (longest, *runs) for task in run.tasks}
    owners = {name: next(run for run in runs if name in run.outputs) for name in tasks}
    rows = runs[0].samples
    chosen = torch.tensor(rows)
    targets = {name: run.split.select((name,)).gather(chosen).targets[name].cpu() for name, run in owners.items()}
    images = runs[0].split.select(()).gather(chosen).inputs.cpu()
    columns = _columns(runs)
    names = [f"{split} {row}" for row in rows]
    return draw_predictions(images, list(tasks.values()), targets, columns, names, out)


def _columns(runs: Sequence[Predictions]) -> list[Column]:
    """One a run; the single-task runs of a seed are one together, first. Says which run stands under which label."""
    groups: dict[tuple[str, object], list[Predictions]] = {}
    for run in sorted(runs, key=lambda run: len(run.tasks) > 1):
        single = len(run.tasks) == 1
        key = (SINGLE_TASK, run.seed) if single else (run.strategy, run.path)
        same = groups.setdefault(key, [])
        taken = [other for other in same if not run.outputs.keys().isdisjoint(other.outputs)]
        if taken:
            raise UserError(
                f"{taken[0].path} and {run.path} are both runs of {run.tasks[0].name} alone with seed {run.seed}; "
                f"the column {SINGLE_TASK} has room for one. Leave one out."
            )
        same.append(run)
    columns: list[Column] = []
    seeds = {run.seed for run in runs}
    used: dict[str, int] = {}
    for (name, _), same in groups.items():
        label = name.replace(SINGLE_TASK, "single task") + (f" seed {same[0].seed}" if len(seeds) > 1 else "")
        used[label] = used.get(label, 0) + 1
        label = f"{label} ({used[label]})" if used[label] > 1 else label
        columns.append(Column(label, {task: maps for run in same for task, maps in run.outputs.items()}))
        for run in same:
            sys.stdout.write(f"{label}: {run.path}\n")
    return columns
