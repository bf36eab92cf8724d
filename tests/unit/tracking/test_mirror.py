"""What the mirror shows, without W&B."""

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mtl.errors import ConfigError
from mtl.tracking import mirror_mode
from mtl.tracking.mirror_pairs import COLUMNS, Pairs, heat_map
from mtl.tracking.mirror_rows import PAIRS_UP_TO, row
from mtl.tracking.mirror_summary import Standing

NAN = math.nan


def diagnostics(tasks=("a", "b"), cosines=((1.0, -0.5), (-0.5, 1.0)), **more):
    return {
        "event": "diagnostics",
        "step": 20,
        "epoch": 1,
        "gradient_norms": dict.fromkeys(tasks, 2.0),
        "cosines": [list(line) for line in cosines],
        "magnitude_similarity": [[1.0] * len(tasks)] * len(tasks),
        "conflict_rate": 1.0,
        **more,
    }


def evaluation(epoch, left, error, split="val"):
    metrics = {"left": {"accuracy": left}, "depth": {"error": error}}
    return {"event": "evaluation", "step": 10 * epoch, "epoch": epoch, "metrics": {split: metrics}, "losses": {}}


def test_a_step():
    event = {
        **{"event": "step", "step": 3, "epoch": 0, "losses": {"a": 1.5, "b": NAN}, "lr": 0.1},
        **{"groups": [["a"], ["b", "c"]], "diagnostics": {"affinity/a->b": 0.5}},
    }
    assert row(event) == {
        **{"step": 3, "train/losses/a": 1.5, "train/lr": 0.1, "train/groups": "a | b+c"},
        "train/diagnostics/affinity/a->b": 0.5,
    }


def test_an_evaluation_has_both_axes():
    found = row({**evaluation(2, 90.0, None), "epochs": 5, "seconds": 0.5})
    assert found == {"step": 20, "epoch": 2, "eval/metrics/val/left/accuracy": 90.0, "eval/seconds": 0.5}


def test_other_events_have_no_row():
    assert row({"event": "checkpoint", "step": 3, "train_seconds": 1.0}) == {}
    assert row({"event": "start", "step": 0, "git": {"dirty": True}}) == {}


def test_diagnostics():
    event = diagnostics(affinity=[[0.1, 0.2], [None, 0.4]], update_share={"conv": {"a": 0.25, "b": 0.75}})
    found = row(event)
    assert found["diagnostics/cosines/a/b"] == -0.5
    assert "diagnostics/cosines/b/a" not in found
    assert found["diagnostics/cosines_mean"] == found["diagnostics/cosines_least"] == -0.5
    assert found["diagnostics/affinity/a/b"] == 0.2
    assert "diagnostics/affinity/b/a" not in found
    assert found["diagnostics/update_share/conv/b"] == 0.75
    assert found["diagnostics/conflict_rate"] == 1.0


def test_many_tasks_get_means_but_no_pairs():
    """40 tasks have 780 pairs; the number of names has to stay small."""
    tasks = tuple(f"t{k}" for k in range(PAIRS_UP_TO + 1))
    cosines = np.full((len(tasks), len(tasks)), 0.25)
    cosines[1, 0] = cosines[0, 1] = -0.75
    share = {"conv": dict.fromkeys(tasks, 1 / len(tasks))}
    found = row(diagnostics(tasks, cosines.tolist(), update_share=share))
    assert found["diagnostics/cosines_least"] == -0.75
    off = cosines[~np.eye(len(tasks), dtype=bool)]
    assert found["diagnostics/cosines_mean"] == pytest.approx(off.mean())
    assert len(found) < 25


def test_best_follows_the_direction_and_last_the_time():
    standing = Standing({"left": {"accuracy": True}, "depth": {"error": False}})
    for epoch, left, error in [(1, 50.0, 0.3), (2, 70.0, 0.4), (3, NAN, 0.2), (4, 60.0, None)]:
        standing.take(evaluation(epoch, left, error))
        standing.take(evaluation(epoch, left, error, "test"))
    assert standing.summary() == {
        **{"last/val/left/accuracy": 60.0, "last/val/depth/error": None},  # not that of an earlier epoch
        **{"last/test/left/accuracy": 60.0, "last/test/depth/error": None},
        **{"best/val/left/accuracy": 70.0, "best/val/depth/error": 0.2},
        **{"best_epoch/val/left/accuracy": 2, "best_epoch/val/depth/error": 3},
    }


def test_pairs_over_a_run():
    pairs = Pairs()
    assert pairs.rows() == []
    pairs.take(diagnostics(affinity=[[0, 1], [2, 0]]))
    pairs.take(diagnostics(cosines=((1.0, 0.1), (0.1, 1.0)), affinity=[[0, 3], [None, 0]]))
    pairs.take(diagnostics(cosines=((1.0, None), (None, NAN)), affinity=[[0, 3], [None, 0]]))
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in pairs.rows()]
    assert [(r["first"], r["second"], r["conflicts"], r["affinity"]) for r in rows] == [
        ("a", "b", 0.5, 3.0),
        ("b", "a", 0.5, None),
    ]
    assert rows[0]["cosine"] == pytest.approx(-0.2)


def test_a_heat_map_shows_the_sign():
    image = heat_map([[1.0, -0.9], [0.9, NAN]], ["a", "b"], "title").astype(int)
    assert image.ndim == 3
    red, blue = (image[..., 0] - image[..., 2] > 60), (image[..., 2] - image[..., 0] > 60)
    half = image.shape[0] // 2
    assert red[:half].sum() > 500
    assert blue[half:].sum() > 500


@pytest.fixture
def nothing_configured(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "of_all"))
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    fresh = SimpleNamespace(
        settings_workspace=str(tmp_path / "wandb/settings"),
        settings_system=str(tmp_path / "of_all/settings"),
    )

    def client_settings():
        fresh.base_url = os.environ.get("WANDB_BASE_URL") or "https://api.forge.coreweave.com"
        return fresh

    monkeypatch.setattr(mirror_mode, "_client_settings", client_settings)
    return tmp_path


def test_auto_is_offline_without_a_key(nothing_configured):
    assert mirror_mode.choose_mode("auto") == ("offline", "no API key is set")
    assert mirror_mode.choose_mode("online")[0] == "online"


def test_auto_is_online_with_a_key(nothing_configured, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert mirror_mode.choose_mode("auto") == ("online", "key in WANDB_API_KEY")
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert mirror_mode.choose_mode("auto")[0] == "offline"


def test_a_netrc_counts_for_its_host(nothing_configured, monkeypatch):
    file = nothing_configured / ".netrc"
    file.write_text("machine api.wandb.ai login user password x\n")
    file.chmod(0o600)
    assert mirror_mode.choose_mode("auto") == ("online", f"key in {file}")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mirror_mode.choose_mode("auto")[0] == "offline"
    other = nothing_configured / "other"
    monkeypatch.setenv("NETRC", str(other))
    monkeypatch.delenv("WANDB_BASE_URL")
    assert mirror_mode.choose_mode("auto")[0] == "offline"
    other.write_text("machine api.wandb.ai\n  nonsense here\n")
    assert mirror_mode.choose_mode("auto")[0] == "offline"


def test_wandb_mode_of_the_environment_decides_before_the_key(nothing_configured, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert mirror_mode.choose_mode("auto") == ("offline", "WANDB_MODE=offline")
    assert mirror_mode.choose_mode("online")[0] == "online"


@pytest.mark.parametrize(
    ("text", "mode"), [("dryrun", "offline"), ("run", "online"), ("OFFLINE", "offline"), (" Disabled ", "disabled")]
)
def test_wandb_mode_in_other_words(nothing_configured, monkeypatch, text, mode):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setenv("WANDB_MODE", text)
    assert mirror_mode.choose_mode("auto") == (mode, f"WANDB_MODE={mode}")
    assert os.environ["WANDB_MODE"] == mode  # the client refuses what is not spelled so


def test_an_empty_wandb_mode_says_nothing(nothing_configured, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    assert mirror_mode.choose_mode("auto")[0] == "offline"
    assert "WANDB_MODE" not in os.environ  # the client refuses it


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_an_unknown_wandb_mode_is_refused(nothing_configured, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match=r"WANDB_MODE should be online, offline or disabled\. Found `ofline`"):
        mirror_mode.choose_mode(mode)


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_what_wandb_offline_wrote_decides_before_the_key(nothing_configured, monkeypatch, mode):
    """`wandb offline` and `wandb disabled` write a settings file in the directory."""
    monkeypatch.setenv("WANDB_API_KEY", "x")
    for place, text in (("of_all", "online"), ("wandb", mode)):
        (nothing_configured / place).mkdir()
        (nothing_configured / place / "settings").write_text(f"[default]\nmode = {text}\nproject = 100%\n")
    found, reason = mirror_mode.choose_mode("auto")
    assert found == ("disabled" if mode == "disabled" else "offline")
    assert reason == f"mode in {nothing_configured / 'wandb/settings'}"
    (nothing_configured / "wandb/settings").write_text("[default]\n")
    assert mirror_mode.choose_mode("auto")[0] == "online"
    (nothing_configured / "wandb/settings").write_text("[default]\nmode = maybe\n")
    with pytest.raises(ConfigError, match="Found `maybe`"):
        mirror_mode.choose_mode("auto")
    (nothing_configured / "wandb/settings").write_text("nothing of the kind\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        mirror_mode.choose_mode("auto")


def test_the_client_writes_and_names_the_files_that_are_read(tmp_path):
    """With the client itself, in processes of their own: it keeps its settings for the life of a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**kept, "HOME": str(tmp_path), "WANDB_API_KEY": "x", "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    ask = "from mtl.tracking.mirror_mode import choose_mode; import sys; print(*choose_mode('auto'))"
    assert run(sys.executable, "-c", ask) == "online key in WANDB_API_KEY"
    run(sys.executable, "-m", "wandb", "offline")
    assert run(sys.executable, "-c", ask) == f"offline mode in {tmp_path / 'wandb/settings'}"
    run(sys.executable, "-m", "wandb", "disabled")
    assert run(sys.executable, "-c", ask) == f"disabled mode in {tmp_path / 'wandb/settings'}"


def test_a_run_without_the_mirror_does_not_import_wandb():
    code = "import sys, mtl.config, mtl.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
