"""The runs that a table asks for, those that are missing, and the commands that make them."""

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl.results.runs import Run
from mtl.results.statistics import mean

SCRIPT = "python scripts/train.py -m"
_UNTUNED = ("strategy", "seed", "dataset.tasks")


@dataclass(frozen=True)
class PlannedRun:
    """One job of a sweep.

    Attributes:
        row: Label of the row it belongs to.
        sweep: Name of the sweep.
        overrides: Key -> value as text, in the order of the sweep's parameters.
        seed: Seed.
        config_hash: That a run of it will have.
        setting_hash: That a run of it will have.
        config: The resolved configuration, without the seed's effect.
    """

    row: str
    sweep: str
    overrides: Mapping[str, str]
    seed: int
    config_hash: str
    setting_hash: str
    config: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def tasks(self) -> str:
        """Task selection, as text; empty for all tasks."""
        return self.overrides.get("dataset.tasks", "")

    @property
    def choice(self) -> str:
        """What is chosen on validation, as text: learning rate, static weights; empty if nothing is."""
        return ", ".join(
            f"{key.rpartition('.')[2]} {value}" for key, value in self.overrides.items() if key not in _UNTUNED
        )

    def is_made_by(self, run: Run) -> bool:
        """Whether `run` is this job: the same configuration and seed."""
        return run.config_hash == self.config_hash and run.seed == self.seed

    def has(self, runs: Iterable[Run]) -> bool:
        """Whether one of `runs` is this job, done (a diverged run is a result, a failed one is not)."""
        return any(self.is_made_by(run) and run.status != "failed" for run in runs)


def missing_runs(planned: Sequence[PlannedRun], runs: Sequence[Run]) -> list[PlannedRun]:
    """The jobs that no completed or diverged run has done."""
    done = {(run.config_hash, run.seed) for run in runs if run.status != "failed"}
    return [job for job in planned if (job.config_hash, job.seed) not in done]


def commands(missing: Sequence[PlannedRun], full: Mapping[str, Mapping[str, str]], extra: Sequence[str]) -> list[str]:
    """Multirun commands that make exactly the missing jobs: one per sweep, or more where no cross product says it.

    Args:
        missing: The jobs.
        full: Sweep -> parameter -> all its values, as the sweep's file has them; those are left out of a command.
        extra: Overrides that every job has.
    """
    lines = []
    for sweep in dict.fromkeys(job.sweep for job in missing):
        jobs = [job.overrides for job in missing if job.sweep == sweep]
        for box, named in (part for whole in _boxes(jobs) for part in _with_groups(whole, full[sweep])):
            texts = {key: ",".join(values) for key, values in box.items()}
            words = [f"{key}={text}" for key, text in texts.items() if key in named or text != full[sweep].get(key)]
            lines.append(f"{SCRIPT} sweep={sweep}" + "".join(f" {shlex.quote(word)}" for word in [*words, *extra]))
    return lines


def _boxes(jobs: Sequence[Mapping[str, str]]) -> list[dict[str, tuple[str, ...]]]:
    """Disjoint cross products whose union is `jobs`; few, by joining those that differ in one key."""
    boxes: list[dict[str, tuple[str, ...]]] = [{key: (value,) for key, value in job.items()} for job in jobs]
    for key in reversed(list(boxes[0]) if boxes else []):
        merged: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
        for box in boxes:
            rest = tuple((other, values) for other, values in box.items() if other != key)
            merged.setdefault(rest, []).extend(value for value in box[key])
        order = list(boxes[0])
        joined = [dict(rest) | {key: tuple(dict.fromkeys(values))} for rest, values in merged.items()]
        boxes = [{name: box[name] for name in order} for box in joined]
    return boxes


def _with_groups(
    box: Mapping[str, tuple[str, ...]], file: Mapping[str, str]
) -> Iterator[tuple[dict[str, tuple[str, ...]], set[str]]]:
    """The box, in parts where its command has to name the choice of a group, and the groups to name.

    Hydra composes overrides of one value before it sweeps, when a swept group still has its default: an option of the
    strategy, say, is then unknown unless the strategy stands beside it.
    """
    options = [key for key, values in box.items() if "." in key and len(values) == 1 and values[0] != file.get(key)]
    named = [key for key in box if any(option.startswith(f"{key}.") for option in options)]
    for choice in itertools.product(*(box[key] for key in named)):
        yield {**box, **{key: (value,) for key, value in zip(named, choice, strict=True)}}, set(named)


def estimate(missing: Sequence[PlannedRun], planned: Sequence[PlannedRun], runs: Sequence[Run]) -> str:
    """How long the missing runs will train, from runs of the same method, setting and tasks; never invented."""
    seconds: list[float] = []
    unknown: dict[str, int] = {}
    done = {(run.config_hash, run.seed): run for run in runs if run.completed and "train_seconds" in run.cost}
    for job in missing:
        alike = [
            done[other.config_hash, other.seed].cost["train_seconds"]
            for other in planned
            if (other.row, other.setting_hash, other.tasks) == (job.row, job.setting_hash, job.tasks)
            and (other.config_hash, other.seed) in done
        ]
        if alike:
            seconds.append(mean(alike))
        else:
            unknown[job.row] = unknown.get(job.row, 0) + 1
    parts = []
    if seconds:
        parts.append(
            f"{len(seconds)} runs: about {_duration(sum(seconds))} of training one after another, from runs of the "
            "same method (evaluation and start-up not counted)"
        )
    if unknown:
        names = ", ".join(f"{row} ({count} runs)" for row, count in unknown.items())
        parts.append(f"no estimate for {names}: no run of this method yet")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
