"""A search: what it chooses from, and what becomes of its trials. Runs are played: summaries are written by hand."""

import math

import optuna
import pytest

from mtl.config.search import parse, search_main
from mtl.config.space import as_overrides, split_space
from mtl.config.trials import Trials
from mtl.errors import ConfigError, RunDirectoryError
from mtl.sweeps.manifest import Manifest, SweepDirectory
from mtl.sweeps.state import Attempts
from mtl.training.run_directory import RunDirectory

LR = "optimizer.lr=tag(log, interval(1e-4, 1e-1))"
QUICK = ["dataset.train_size=64", "dataset.val_size=16", "dataset.test_size=16"]
OPTIMUM = math.log(3e-3)


def score(job):
    return -abs(math.log(job.config["optimizer"]["lr"]) - OPTIMUM) - 0.1 * job.seed


def play(directory, job, status="completed", value=None, selection=True):
    """Write what a run would leave."""
    path = directory.job(job)
    RunDirectory(path).reserve("a: 1\n")
    about = {"validation_score": value, "undefined_tasks": []} if selection else {"validation_score": None}
    RunDirectory(path).write_summary({"status": status, "message": None, "selection": about})


def open_trials(path, wanted, seeds=(0,), overrides=(LR, "strategy=uniform,mgda")):
    directory = SweepDirectory(path)
    path.mkdir(exist_ok=True)
    if not directory.manifest.is_file():
        directory.write(Manifest("identity", "command", {}, "files", ()))
    space, fixed = split_space([*overrides, *QUICK])
    return directory, Trials(directory, space, fixed, seeds, wanted, 1, False, lambda job: None)


def studied(trials):
    return [(t.state.name, dict(t.params), t.value) for t in trials._study.get_trials()]


def finish(directory, trials):
    while (job := trials.next()) is not None:
        play(directory, job, value=score(job))
        trials.ended(job, {"status": "completed"})
    assert not trials.is_open()


def test_the_space_is_hydras_grammar():
    space, fixed = split_space([LR, "a=interval(0,1)", "b=int(interval(1,8))", "c=range(1,6,2)", "d=x/y,z", "e=1"])
    assert space["optimizer.lr"] == optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
    assert space["a"] == optuna.distributions.FloatDistribution(0, 1)
    assert space["b"] == optuna.distributions.IntDistribution(1, 8)
    assert space["c"].choices == ("1", "3", "5")
    assert space["d"].choices == ("x/y", "z")
    assert fixed == ["e=1"]
    assert as_overrides({"a": 1e-05, "b": 3, "d": "x/y"}) == ["a=1e-05", "b=3", "d=x/y"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0,1", LR], "`seed` is no choice"),
        (["optimizer.lr=0.1"], "Nothing is searched"),
        (["optimizer.lr=interval(1,0)"], "from a smaller to a larger"),
        (["optimizer.lr=tag(log,interval(0,1))"], "positive if log"),
        (["strategy=glob(*)"], "cannot be searched"),
        ([LR, "trials=0"], "`trials` should be"),
        ([LR, "seeds=1,1"], "should differ"),
        ([LR, "-m"], "Arguments are"),
        ([LR, "hydra.sweep.dir=x"], "Arguments are"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        split_space(parse(arguments).overrides)


@pytest.mark.parametrize("stops", [[3, 12], [0, 1, 11]])
def test_an_interrupted_search_equals_an_uninterrupted_one(tmp_path, stops):
    """Beyond the sampler's random start (10 trials), where a suggestion depends on all values before it."""
    directory, trials = open_trials(tmp_path / "straight", 13)
    finish(directory, trials)
    straight = studied(trials)
    assert {state for state, _, _ in straight} == {"COMPLETE"}
    for stop in stops:
        directory, trials = open_trials(tmp_path / "stopped", 13)
        while (job := trials.next()) is not None:
            if job.number == stop:
                break  # killed while this run was under way
            play(directory, job, value=score(job))
            if job.number == stop - 1:
                break  # killed when it had ended, before the study heard of it
            trials.ended(job, {"status": "completed"})
    directory, trials = open_trials(tmp_path / "stopped", 13)
    finish(directory, trials)
    assert studied(trials) == straight
    assert len(list((tmp_path / "stopped").glob("trial=*/*/summary.json"))) == 13


def test_the_value_is_the_mean_over_seeds_on_validation(tmp_path):
    directory, trials = open_trials(tmp_path, 2, seeds=(0, 4))
    finish(directory, trials)
    jobs = directory.read().jobs
    assert [job.seed for job in jobs] == [0, 4, 0, 4]
    assert jobs[0].config["optimizer"] == jobs[1].config["optimizer"] != jobs[2].config["optimizer"]
    assert studied(trials)[0][2] == pytest.approx((score(jobs[0]) + score(jobs[1])) / 2)
    assert "trial" in trials.describe_best()


def test_two_runs_of_a_trial_may_end_together(tmp_path):
    directory, trials = open_trials(tmp_path, 1, seeds=(0, 1))
    jobs = [trials.next(), trials.next()]
    for job in jobs:
        play(directory, job, value=score(job))
    for job in jobs:
        trials.ended(job, {"status": "completed"})
    assert [state for state, _, _ in studied(trials)] == ["COMPLETE"]
    assert not trials.is_open()


def test_a_diverged_run_prunes_its_trial(tmp_path):
    directory, trials = open_trials(tmp_path, 3)
    for value in ("diverged", "undefined", "completed"):
        job = trials.next()
        status = "diverged" if value == "diverged" else "completed"
        play(directory, job, status, value=1.0 if value == "completed" else None)
        trials.ended(job, {"status": status})
    assert trials.next() is None
    assert [(state, value) for state, _, value in studied(trials)] == [
        *(("PRUNED", None), ("PRUNED", None), ("COMPLETE", 1.0))
    ]


def test_a_failed_run_is_tried_once_more_then_its_trial_fails(tmp_path):
    directory, trials = open_trials(tmp_path, 2)
    job = trials.next()
    trials.lost(job, "killed")
    assert trials.next() == job
    directory.job(job).mkdir(exist_ok=True, parents=True)
    Attempts(directory.job(job)).failed("again")
    trials.ended(job, {"status": "failed"})
    second = trials.next()
    assert second != job
    play(directory, second, value=1.0)
    trials.ended(second, {"status": "completed"})
    assert [state for state, _, _ in studied(trials)] == ["FAIL", "COMPLETE"]


def test_a_protocol_without_validation_is_refused(tmp_path):
    directory, trials = open_trials(tmp_path, 1)
    job = trials.next()
    play(directory, job, selection=False)
    with pytest.raises(ConfigError, match="no validation split"):
        trials.ended(job, {"status": "completed"})


def test_a_directory_is_of_one_search(tmp_path):
    SweepDirectory(tmp_path).write(Manifest("another", "its command", {}, "files", ()))
    with pytest.raises(RunDirectoryError, match="its command") as error:
        search_main([LR, f"out={tmp_path}"])
    assert "another search" in str(error.value)
