"""The trials of a search: what Optuna suggests becomes runs, and their validation scores go back to it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.config.entry import compose_config
from mtl.config.multirun import freeze_job
from mtl.config.space import as_overrides
from mtl.errors import ConfigError
from mtl.seeding import derive_seed
from mtl.sweeps.manifest import SweepDirectory, SweepJob
from mtl.sweeps.queue import ATTEMPTS_ALLOWED, record_loss
from mtl.sweeps.state import DONE, State, read_status
from mtl.training.run_directory import RunDirectory

JOURNAL = "optuna.log"


class Trials:
    """A source of jobs for a pool: runs of the trials that are under way, then of new ones.

    A trial ends when its last run does. Its value is the mean validation score of its runs (higher is better; never a
    test metric). A diverged run, or one whose score is undefined, makes it a pruned trial, which samplers know to be
    bad; a run that failed twice a failed one, which they leave out.

    The study is a file in the directory of the search, so a search that was killed goes on: trials under way are found
    there, and their runs continue. The sampler is seeded anew before each trial, by the trial's number, so that a
    search with one run at a time that was interrupted makes the same suggestions as one that was not.

    Args:
        directory: Of the search.
        space: Key -> distribution.
        fixed: Overrides of every trial.
        seeds: Of the runs of a trial.
        wanted: Number of trials.
        threads: For each run.
        parallel: Whether several runs are done at once.
        announce: Called with each new job.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        space: Mapping[str, Any],
        fixed: Sequence[str],
        seeds: Sequence[int],
        wanted: int,
        threads: int,
        parallel: bool,
        announce: Callable[[SweepJob], None],
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._directory = directory
        self._space = dict(space)
        self._fixed = list(fixed)
        self._seeds = list(seeds)
        self._wanted = wanted
        self._threads = threads
        self._parallel = parallel
        self._announce = announce
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(directory.path / JOURNAL))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )
        self._jobs = {job.directory: job for job in directory.read().jobs}
        self._under_way: dict[int, list[SweepJob]] = {}  # trial -> its runs
        self._ready: list[SweepJob] = []
        for trial in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self._begin(trial.number, trial.params)

    def next(self) -> SweepJob | None:
        """A run of a trial under way, else of a new trial."""
        while not self._ready and len(self._study.get_trials(deepcopy=False)) < self._wanted:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._sampler(number)
            trial = self._study.ask(self._space)
            self._begin(trial.number, trial.params)
        return self._ready.pop(0) if self._ready else None

    def is_open(self) -> bool:
        """Whether there are runs or trials to start."""
        return bool(self._ready) or len(self._study.get_trials(deepcopy=False)) < self._wanted

    def request(self, job: SweepJob) -> Mapping[str, Any]:
        """For mtl/config/worker.py."""
        path = str(self._directory.job(job).resolve())
        return {"number": job.number, "path": path, "config": job.config, "threads": self._threads}

    def ended(self, job: SweepJob, answer: Mapping[str, Any]) -> None:  # noqa: ARG002 - the run directory tells
        """Tell the study if the trial is over; try a failed run once more."""
        self._settle(job)

    def lost(self, job: SweepJob, reason: str) -> None:
        """A failed attempt."""
        record_loss(self._directory, job, reason)
        self._settle(job)

    def counts(self) -> str:
        """`12 of 20 trials are there`."""
        return f"{len(self._study.get_trials(deepcopy=False)) - len(self._under_way)} of {self._wanted} trials are done"

    def describe_best(self, most: int = 5) -> str:
        """The best trials, and how to train with the best choice."""
        done = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        done.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
        lines = [f"trial {t.number}  score {t.value:.6g}  {' '.join(as_overrides(t.params))}" for t in done[:most]]
        if lines:
            lines.insert(0, "Best on validation (mean over tasks of the primary metric, higher is better):")
        return "".join(line + "\n" for line in lines)

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=derive_seed(0, "trial", number) % 2**32, constant_liar=self._parallel)

    def _begin(self, number: int, params: Mapping[str, Any]) -> None:
        """Make the runs of a trial, or find those that were made before the search was interrupted."""
        if set(params) != set(self._space):  # killed while it was being suggested
            self._study.tell(number, state=_state("FAIL"))
            return
        self._under_way[number] = []
        for seed in self._seeds:
            name = f"trial={number:04d}/seed={seed}"
            if name not in self._jobs:
                overrides = [*self._fixed, *as_overrides(params), f"seed={seed}"]
                job = freeze_job(len(self._jobs), name, overrides, *compose_config(overrides))
                self._directory.add(job)
                self._jobs[name] = job
                self._announce(job)
            self._under_way[number].append(self._jobs[name])
        open_ones = [job for job in self._under_way[number] if not self._is_over(job)]
        self._ready += open_ones
        if not open_ones:
            self._settle(self._under_way[number][0])

    def _is_over(self, job: SweepJob) -> bool:
        status = read_status(self._directory.job(job))
        return status.state in DONE or (status.state is State.FAILED and status.failures >= ATTEMPTS_ALLOWED)

    def _settle(self, job: SweepJob) -> None:
        numbers = [number for number, jobs in self._under_way.items() if job in jobs]
        if not numbers:  # the last two runs ended together: the trial was over when the first was heard of
            return
        number = numbers[0]
        if not self._is_over(job):
            self._ready.append(job)
        if not all(map(self._is_over, self._under_way[number])):
            return
        jobs = self._under_way.pop(number)
        if any(read_status(self._directory.job(one)).state is State.FAILED for one in jobs):
            self._study.tell(number, state=_state("FAIL"))
            return
        scores = [self._score(one) for one in jobs]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            self._study.tell(number, state=_state("PRUNED"))
        else:
            self._study.tell(number, statistics.fmean(known))

    def _score(self, job: SweepJob) -> float | None:
        """The validation score; None if the run diverged, or its score is undefined."""
        summary = RunDirectory(self._directory.job(job)).finished()
        assert summary is not None
        if summary["status"] == State.DIVERGED:
            return None
        if "undefined_tasks" not in summary["selection"]:
            raise ConfigError(
                "A search chooses on validation, and this protocol has no validation split. Give it one (for example "
                "dataset.val_size=10000). Choosing on the test split is not offered."
            )
        score = summary["selection"]["validation_score"]
        return None if score is None else float(score)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
