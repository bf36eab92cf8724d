"""The manifest is read as it was written, and names of directories tell jobs apart."""

import fcntl
import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config import watch
from mtl.errors import RunDirectoryError
from mtl.sweeps.manifest import LOCK, Manifest, SweepDirectory, SweepJob, directory_names
from mtl.training.run_directory import RunDirectory

JOBS = tuple(SweepJob(n, f"{n}", (f"seed={n}",), "hash", n, {"seed": n, "lr": 0.1 + 0.2}) for n in range(3))
MANIFEST = Manifest("identity", "command 'with spaces'", {"commit": None, "dirty": None}, "files", JOBS)


def test_it_is_read_as_it_was_written(tmp_path):
    directory = SweepDirectory(tmp_path)
    directory.write(MANIFEST)
    assert directory.read() == MANIFEST
    assert [job.config for job in directory.read().jobs] == [job.config for job in JOBS]
    assert len(directory.manifest.read_text().splitlines()) == 4
    directory.add(SweepJob(3, "3", ("seed=3",), "hash", 3, {}))
    assert [job.number for job in directory.read().jobs] == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["", "not json", '{"identity": 1}\n', '{"a": 1}\n{"b": 2}\n'])
def test_damage_is_told(tmp_path, text):
    directory = SweepDirectory(tmp_path)
    with pytest.raises(RunDirectoryError, match="not the directory of a sweep"):
        directory.read()
    directory.manifest.write_text(text)
    with pytest.raises(RunDirectoryError, match="damaged"):
        directory.read()


def test_one_process_starts_jobs(tmp_path):
    directory = SweepDirectory(tmp_path / "new")
    with directory.locked(), pytest.raises(RunDirectoryError, match="Another process runs the sweep"):
        directory.locked().__enter__()
    with directory.locked():
        pass


def test_a_look_tells_whether_a_process_starts_jobs(tmp_path):
    directory = SweepDirectory(tmp_path / "new")
    assert not directory.is_locked()
    with directory.locked():
        assert directory.is_locked()
    assert not directory.is_locked()
    with (directory.path / LOCK).open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with directory.locked():  # a look at that instant does not keep a sweep from starting
            pass


def test_watching_ends_with_the_sweep_and_not_between_two_jobs(tmp_path, monkeypatch, capsys):
    directory = SweepDirectory(tmp_path)
    directory.write(MANIFEST)
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    ended = threading.Event()

    def look():
        watch.watch([f"dir={tmp_path}", "watch=true"])
        ended.set()

    with directory.locked():
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        assert not ended.wait(1)  # no job runs, as between two jobs
        late = SweepJob(3, "3", ("seed=3",), "hash", 3, {})
        directory.add(late)
        directory.job(late).mkdir()
        RunDirectory(directory.job(late)).write_summary({"status": "completed", "message": None})
    assert ended.wait(20)
    assert "4 jobs: 1 completed, 3 waiting" in capsys.readouterr().out


def test_names_hold_what_varies():
    jobs = [
        {"strategy": strategy, "optimizer.lr": lr, "seed": "0", "dataset.tasks": tasks}
        for strategy, lr, tasks in itertools.product(("mgda/paper", "uniform"), ("0.1", "1e-3"), ("[left]", "[a,b]"))
    ]
    names = directory_names(jobs)
    assert names[0] == "0_strategy=mgda-paper_lr=0.1_tasks=left"
    assert names[-1] == "7_strategy=uniform_lr=1e-3_tasks=a-b"
    assert directory_names([{"seed": "1"}]) == ["0"]
    both = directory_names([{"optimizer.lr": "1", "+other.lr": "1"}, {"optimizer.lr": "2", "+other.lr": "2"}])
    assert both == ["0_optimizer.lr=1_other.lr=1", "1_optimizer.lr=2_other.lr=2"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=12))
def test_names_are_unique_and_plain(values):
    names = directory_names([{"key": value} for value in values])
    assert len(set(names)) == len(names)
    assert names == sorted(names)
    for name in names:
        assert len(name.encode()) < 256
        assert "/" not in name
        assert name not in (".", "..")
