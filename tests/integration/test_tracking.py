"""The record, its mirror and the display."""

import json
from pathlib import Path

import pytest

from mtl.config import run_overrides, train_main
from mtl.tracking import JsonlTracker, read_events
from mtl.tracking.base import finite
from mtl.training.checkpoint import load_checkpoint
from tests.toys import same_state

QUICK = [
    "dataset.train_size=64",
    "dataset.val_size=16",
    "dataset.test_size=16",
    "dataset.batch_size=32",
    "trainer.max_epochs=2",
    "tracking.log_every_steps=1",
]


def test_the_record_of_a_run(tmp_path):
    summary = run_overrides([*QUICK, "strategy=mgda", "tracking.progress=none"], tmp_path)
    events = read_events(tmp_path / "metrics.jsonl")
    assert [event["event"] for event in events] == [
        *("start", "checkpoint", "step", "step", "evaluation", "checkpoint"),
        *("step", "step", "evaluation", "checkpoint", "end"),
    ]
    step = events[2]
    assert set(step["losses"]) == set(step["weights"]) == set(step["gradient_norms"]) == {"left", "right"}
    assert sum(step["weights"].values()) == pytest.approx(1)
    assert step["diagnostics"]["duality_gap"] < 1e-9
    assert events[-3]["metrics"] == summary["metrics"]
    assert summary["cost"]["samples"] == 128
    assert summary["steps"] == 4
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"] == summary["metrics"]


def test_groups_are_recorded_by_name(tmp_path):
    run_overrides([*QUICK, "strategy=igd", "tracking.progress=none"], tmp_path)
    assert read_events(tmp_path / "metrics.jsonl")[2]["groups"] == [["left"], ["right"]]


DIAGNOSED = [*QUICK, "tracking.progress=none", "tracking.diagnostics.every=2", "tracking.diagnostics.path=true"]


def test_diagnostics_are_events_of_their_own(tmp_path):
    """The keys that readers rely on; and a run without them has the same metrics and the same network."""
    summary = run_overrides([*DIAGNOSED, "strategy=selective_groups"], tmp_path / "on")
    events = [event for event in read_events(tmp_path / "on/metrics.jsonl") if event["event"] == "diagnostics"]
    assert [(event["step"], event["epoch"]) for event in events] == [(2, 0), (4, 1)]
    for event in events:
        assert set(event) == {
            *("event", "step", "epoch", "gradient_norms", "cosines", "magnitude_similarity", "conflict_rate"),
            *("condition_number", "angle_to_uniform", "update_norm", "update_share", "path_length", "displacement"),
            *("groups", "affinity"),
        }
        assert list(event["update_share"]) == ["backbone.conv1", "backbone.conv2", "backbone.linear"]
        assert len(event["cosines"]) == len(event["affinity"]) == 2
    plain = run_overrides([*QUICK, "tracking.progress=none", "strategy=selective_groups"], tmp_path / "off")
    assert plain["metrics"] == summary["metrics"]
    assert plain["config_hash"] == summary["config_hash"]
    saved = [load_checkpoint(tmp_path / name / "checkpoints/last.pt") for name in ("on", "off")]
    assert set(saved[0]) - set(saved[1]) == {"path"}
    for key in set(saved[1]):
        assert same_state(saved[0][key], saved[1][key]), key


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "often", "true"])
def test_a_wrong_interval_of_diagnostics_is_refused(tmp_path, value, capsys):
    assert train_main([*QUICK, f"tracking.diagnostics.every={value}", f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    assert "every" in capsys.readouterr().err
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_record_continues_at_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    for step in range(6):
        tracker.log({"event": "step", "step": step})
        if step in (2, 4):
            tracker.log({"event": "checkpoint", "step": step})
    tracker.close()
    with path.open("a") as file:
        file.write('{"event": "step", "st')  # a crash in the middle of a line
    tracker = JsonlTracker(path, resume_step=2)
    tracker.log({"event": "step", "step": 3})
    tracker.close()
    assert [(e["event"], e["step"]) for e in read_events(path)] == [
        *(("step", step) for step in range(3)),
        ("checkpoint", 2),
        ("step", 3),
    ]


def test_json_has_no_nan():
    assert finite({"a": float("nan"), "b": [1.0, float("inf")]}) == {"a": None, "b": [1.0, None]}


def test_lines_have_no_control_characters(tmp_path, capsys):
    run_overrides([*QUICK, "tracking.progress=auto"], tmp_path)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    assert "epoch 2/2" in out
    assert "shared: 21,330 parameters" in out


def test_the_bar_shows_and_ends(tmp_path, capsys):
    run_overrides([*QUICK, "tracking.progress=bar"], tmp_path)
    assert "completed; results in" in capsys.readouterr().out


def test_every_tracker_is_closed_when_training_fails(tmp_path, monkeypatch):
    closed = []
    close = JsonlTracker.close

    def closing(self):
        closed.append(Path(self._file.name).name)
        close(self)

    monkeypatch.setattr(JsonlTracker, "close", closing)
    from mtl.training.trainer import Trainer

    def fail(self):
        raise RuntimeError("planted")

    monkeypatch.setattr(Trainer, "fit", fail)
    with pytest.raises(RuntimeError, match="planted"):
        run_overrides([*QUICK, "tracking.progress=none"], tmp_path)
    assert closed == ["metrics.jsonl"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "planted" in summary["message"]
