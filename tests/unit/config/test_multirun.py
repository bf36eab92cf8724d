"""A sweep before its first job: what its jobs are, and what is refused."""

import json
import os

import pytest
from omegaconf import OmegaConf, open_dict, read_write

from mtl.config import compose_config
from mtl.config import multirun as module
from mtl.config.build import config_directory, config_text
from mtl.config.entry import train_main
from mtl.config.external import FrozenLoader, launch_external
from mtl.config.launch import BASIC, JOBLIB, parallel_jobs, visible_devices
from mtl.config.sweeps import plan_table
from mtl.config.work import frozen, work
from mtl.results.definition import load_definition
from mtl.sweeps.manifest import SweepDirectory
from mtl.sweeps.state import Attempts, State, read_status
from mtl.training.run_directory import RunDirectory

QUICK = ["dataset.train_size=64", "dataset.val_size=16", "dataset.test_size=16"]


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Calls the command line; the sweeps that would be run are returned instead."""

    def begin(*arguments):
        seen = []
        monkeypatch.setattr(module, "run_sweep", lambda sweep, retry: seen.append((sweep, retry)) or 0)
        monkeypatch.setattr("sys.argv", ["scripts/train.py"])
        code = train_main(["-m", f"paths.output_dir={tmp_path}", *arguments])
        assert code == (0 if seen else 1)
        return seen[0] if seen else None

    return begin


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "seed=0"], True),
        (["seed=0", "--multirun"], True),
        (["hydra.mode=MULTIRUN"], True),
        (["seed=0"], False),
        (["-m", "--cfg", "job"], False),
        (["-m", "--help"], False),
        (["-m", "--hydra-help"], False),
        (["-m", "--info"], False),
        (["-sc", "query=bash"], False),
        (["-m", "--config-name", "other"], False),
    ],
)
def test_what_is_a_sweep(arguments, expected):
    assert module.is_multirun(arguments) is expected


def test_jobs_are_what_single_runs_would_be(begun, tmp_path):
    sweep, retry = begun("strategy=mgda,uniform", "seed=1,0", *QUICK, "retry=true")
    assert retry
    assert sweep.directory.path.is_relative_to(tmp_path / "default" / "sweep")
    assert len(sweep.manifest.jobs) == 4
    for job in sweep.manifest.jobs:
        assert job.config == frozen(config_text(*compose_config([*job.overrides])))
        assert json.loads(json.dumps(job.config)) == job.config
    again, retry = begun(*QUICK, "seed=0,1", "hydra/launcher=joblib", "strategy=mgda,uniform")
    assert not retry
    assert again.directory.path == sweep.directory.path
    assert again.manifest == sweep.manifest


def test_a_job_is_frozen_whatever_becomes_of_its_overrides(begun, tmp_path):
    sweep, _ = begun("seed=0,1", *QUICK)
    directory = SweepDirectory(sweep.directory.path)
    manifest = directory.read()
    manifest.jobs[1].config["optimizer"]["lr"] = 0.125  # as if configs/ had said so when the sweep started
    directory.write(manifest)
    loaded = FrozenLoader(directory.path).load_sweep_config(sweep.master, list(manifest.jobs[1].overrides))
    assert loaded.optimizer.lr == 0.125
    assert loaded.hydra.sweep.subdir == "1_seed=1"
    assert OmegaConf.is_config(loaded.hydra.launcher)
    again, _ = begun("seed=0,1", *QUICK)
    assert again.manifest.jobs[1].config["optimizer"]["lr"] == 0.125


def test_a_launcher_of_hydras_gets_frozen_jobs_and_may_lose_some(begun, tmp_path, monkeypatch):
    """One that loads configurations where it is called, as Ray's does, writes into them, and dies in the second job."""
    from hydra.core.plugins import Plugins
    from hydra.core.utils import run_job

    sweep, _ = begun("seed=0,1,2", *QUICK, "trainer.max_epochs=1", "tracking.progress=none")
    jobs = sweep.manifest.jobs
    numbers = []

    class Launcher:
        def __init__(self, hydra_context, task_function, config):
            config.hydra.launcher["_target_"] = "written.Launcher"
            self.context, self.function, self.config = hydra_context, task_function, config

        def launch(self, job_overrides, initial_job_idx):
            for number, overrides in enumerate(job_overrides, start=initial_job_idx):
                numbers.append(number)
                loaded = self.context.config_loader.load_sweep_config(self.config, list(overrides))
                loaded.hydra.job.num = number
                if number == 1:
                    sweep.directory.job(jobs[1]).mkdir()
                    Attempts(sweep.directory.job(jobs[1])).started()
                    raise RuntimeError("its process is gone")
                ended = run_job(
                    self.function,
                    loaded,
                    "hydra.sweep.dir",
                    "hydra.sweep.subdir",
                    self.context,
                    configure_logging=False,
                )
                assert ended.return_value == "completed"

    monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", Launcher)
    with read_write(sweep.master.hydra), open_dict(sweep.master):
        sweep.master.hydra.sweeper.max_batch_size = 2
        sweep.master.hydra.launcher = {"_target_": "somewhere.Launcher"}
    launch_external(sweep.master, sweep.directory, jobs, lambda: None)
    assert numbers == [0, 1, 2]
    assert [read_status(sweep.directory.job(job)).state for job in jobs] == ["completed", "failed", "completed"]
    summary = json.loads((sweep.directory.job(jobs[2]) / "summary.json").read_text())
    assert (summary["seed"], summary["config_hash"]) == (2, jobs[2].config_hash)


def test_the_commands_of_a_plan_make_its_jobs(begun):
    definition = load_definition(config_directory() / "table", "community/multidigits")
    planned = {(job.config_hash, job.seed) for job in plan_table(definition, ["seed=0", "optimizer.lr=0.001"]).jobs}
    found = set()
    for name in ("community/multidigits", "community/multidigits/single_task"):
        sweep, _ = begun(f"sweep={name}", "seed=0", "optimizer.lr=0.001")
        assert sweep.directory.path.name.startswith(name.replace("/", "_"))
        found |= {(job.config_hash, job.seed) for job in sweep.manifest.jobs}
    assert found <= planned
    assert len(found) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1,-1,-2"], "Nothing was started"),
        (["strategy=uniform,nash_mtl", "strategy.weighting.reduce=sum"], "Nothing was started"),
        (["seed=0,1,0"], "given twice"),
        (["seed=0,1", "hydra.sweep.subdir=same"], "Two jobs would run in same"),
        (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.verbose=1"], "takes `n_jobs` alone"),
        (["seed=0", "retry=maybe"], "`retry` should be"),
        (["trainer.max_epoch=1,2"], "max_epoch"),
    ],
)
def test_what_is_refused_before_any_job(begun, tmp_path, capsys, arguments, message):
    assert begun(*arguments, *QUICK) is None
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("manifest.jsonl"))


def test_another_sweep_is_not_continued(begun, tmp_path, capsys):
    place = f"hydra.sweep.dir={tmp_path / 'place'}"
    assert begun("seed=0,1", *QUICK, place)
    assert begun("seed=0,1,2", *QUICK, place) is None
    assert "holds another sweep" in capsys.readouterr().err


def test_retry_is_for_sweeps(capsys):
    assert train_main(["retry=true"]) == 1
    assert "is for sweeps" in capsys.readouterr().err


def test_how_many_at_once():
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def joblib(n):
        return OmegaConf.create({"_target_": JOBLIB, "n_jobs": n})

    assert parallel_jobs(OmegaConf.create({"_target_": BASIC}), 9) == 1
    assert parallel_jobs(None, 9) == 1
    assert parallel_jobs(joblib(3), 9) == 3
    assert parallel_jobs(joblib(3), 2) == 2
    assert parallel_jobs(joblib(-1), 10**6) == cpus
    assert parallel_jobs(joblib(-(10**6)), 9) == 1
    with pytest.raises(ValueError, match="n_jobs"):
        parallel_jobs(joblib(0), 9)


@pytest.mark.parametrize(("done", "workers"), [(0, 2), (2, 1), (3, 0)])
def test_the_last_jobs_have_no_more_threads_than_the_first(begun, monkeypatch, done, workers):
    """A job's share depends on the command alone: a continued sweep does what an uninterrupted one does."""
    from mtl.config import launch

    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking.progress=none"]
    sweep, _ = begun("seed=0,1,2", *QUICK, *joblib)
    for job in sweep.manifest.jobs[:done]:
        path = sweep.directory.job(job)
        path.mkdir(parents=True)
        RunDirectory(path).write_summary({"status": "completed", "message": None, "git": {}})
    calls = []
    monkeypatch.setattr(launch.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(launch, "WorkerPool", lambda _, environments: calls.append(environments) or Idle())
    launch.run_sweep(sweep)
    assert [one["OMP_NUM_THREADS"] for one in next(iter(calls), [])] == ["4"] * workers


class Idle:
    def run(self, source, tick):
        if source.is_open():
            assert source.request(source.next())["threads"] == 4


def test_devices_are_those_that_are_visible():
    assert visible_devices(None, 2) == ["0", "1"]
    assert visible_devices("3, 5", 2) == ["3", "5"]
    assert visible_devices("", 0) == []


def test_work_is_done_once_and_a_failure_is_written_down(tmp_path, monkeypatch, capsys):
    overrides = [*QUICK, "trainer.max_epochs=1", "tracking.progress=none"]
    config = frozen(config_text(*compose_config(overrides)))
    path = tmp_path / "job"
    with monkeypatch.context() as patched:
        patched.setattr("mtl.training.runner._fit", lambda *_: 1 / 0)
        assert work(path, config) is State.FAILED
    assert [event["event"] for event in Attempts(path).read()] == ["started", "failed"]
    assert "ZeroDivisionError" in Attempts(path).read()[-1]["message"]
    assert "Traceback" in capsys.readouterr().err
    assert work(path, config) is State.COMPLETED
    monkeypatch.setattr("mtl.config.work.run", None)  # not called again
    assert work(path, config) is State.COMPLETED
    another = {**config, "seed": 1}
    (path / "summary.json").unlink()
    assert work(path, another) is State.FAILED
    assert "another configuration" in Attempts(path).read()[-1]["message"]
