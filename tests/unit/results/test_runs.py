"""Reading run directories. `write_run` is the factory of all tests in this folder."""

import json

import pytest

from mtl.errors import RunDirectoryError
from mtl.results.runs import load_runs, read_run


def write_run(root, name, strategy="uniform", seed=0, values=None, status="completed", higher=True, **changes):
    """Write a run directory; `values`: task -> accuracy, or task -> metric -> value."""
    values = {"left": 90.0, "right": 80.0} if values is None else values
    metrics = {task: value if isinstance(value, dict) else {"accuracy": value} for task, value in values.items()}
    better = higher if isinstance(higher, dict) else {}
    tasks = {
        task: {
            metric: {"higher_is_better": better.get(metric, higher is True or bool(better)), "primary": i == 0}
            for i, metric in enumerate(names)
        }
        for task, names in metrics.items()
    }
    summary = {
        "status": status,
        "message": None if status == "completed" else "loss of left is NaN at step 7",
        "experiment": "demo",
        "dataset": "multidigits",
        "backbone": "lenet",
        "heads": "linear",
        "strategy": strategy,
        "seed": seed,
        "epochs": 2,
        "steps": 100,
        "tasks": tasks,
        "metrics": {"val": metrics, "test": metrics} if status == "completed" else {},
        "selection": {"rule": "last", "epoch": 2},
        "cost": {"backbone_backwards": 200, "optimizer_steps": 100, "step_seconds": 0.004, "train_seconds": 0.4},
        "git": {"commit": "c" * 40, "dirty": False},
        "config_hash": f"{strategy}-{'-'.join(tasks)}-config",
        "setting_hash": "5e77196000",
        "versions": {},
    }
    path = root / name
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps(summary | changes))
    events = [
        {"event": "evaluation", "step": 50 * e, "epoch": e, "metrics": {"val": metrics}, "losses": {}} for e in (1, 2)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*events, {"event": "end"}]))
    return read_run(path)


def test_runs_are_found_at_any_depth_in_path_order(tmp_path):
    write_run(tmp_path, "b/x", seed=1)
    write_run(tmp_path, "a", values={"left": 90.0})
    runs = load_runs(tmp_path)
    assert [run.path.name for run in runs] == ["a", "x"]
    assert [run.is_single_task for run in runs] == [True, False]
    assert [run.num_tasks for run in runs] == [1, 2]
    assert runs[1].value("test", "right", "accuracy") == 80.0
    assert runs[1].value("train", "right", "accuracy") is None


@pytest.mark.parametrize("missing", [True, False])
def test_no_runs_is_said(tmp_path, missing):
    root = tmp_path / "nowhere" if missing else tmp_path
    with pytest.raises(RunDirectoryError, match=r"Found no runs.*scripts/train\.py"):
        load_runs(root)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"accuracy": 1}', '{"status": "done"}', '{"status": "completed", "seed": "0"}']
)
def test_foreign_summary_is_named(tmp_path, text):
    write_run(tmp_path, "good")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"other/summary\.json.*(again|elsewhere)"):
        load_runs(tmp_path)


def test_unknown_status_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="completed, diverged, failed"):
        write_run(tmp_path, "a", status="done")


def test_truncated_last_line_is_left_out(tmp_path):
    run = write_run(tmp_path, "a")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "evaluation", "epo')
    assert [event["epoch"] for event in run.events("evaluation")] == [1, 2]
    assert len(list(run.events("end"))) == 1
    assert list(run.events("step")) == []


def test_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    run = write_run(tmp_path, "a")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": \n{"event": "end"}\n')
    with pytest.raises(RunDirectoryError, match="line 4"):
        list(run.events("end"))


def test_missing_metrics_file_is_an_error(tmp_path):
    run = write_run(tmp_path, "a")
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match="missing"):
        list(run.events("end"))


def test_events_of_several_kinds_come_in_their_order(tmp_path):
    run = write_run(tmp_path, "a")
    assert [event["event"] for event in run.events("end", "evaluation")] == ["evaluation", "evaluation", "end"]
