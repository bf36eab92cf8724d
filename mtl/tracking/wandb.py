"""The mirror at Weights & Biases."""

import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtl.errors import ConfigError
from mtl.tracking.base import Event, Tracker, finite
from mtl.tracking.mirror_mode import choose_mode
from mtl.tracking.mirror_pairs import COLUMNS, Pairs, heat_map
from mtl.tracking.mirror_rows import row
from mtl.tracking.mirror_summary import Directions, Standing
from mtl.tracking.settings import TrackingSettings

AXES = {"train/*": "step", "diagnostics/*": "step", "eval/*": "epoch"}
"""What the metrics of each family are drawn against."""
TITLES = {
    "cosine": "cosine of task gradients, mean over the run",
    "conflicts": "share of steps with conflicting gradients",
    "magnitude_similarity": "magnitude similarity, mean over the run",
    "affinity": "affinity at the end, row helps column",
}
ID_FILE = "wandb_id"


class WandbTracker(Tracker):
    """One W&B run for one run directory; resumed runs continue it under the same id.

    The id is kept in `wandb_id` in the run directory. Nothing is ever read back from W&B; what was recorded before a
    resume comes from the record. W&B's own step is the training step. Names: docs/wandb.md.

    Args:
        settings: Project, entity, mode, tags.
        run_dir: Where W&B writes its files (`wandb/` below it).
        config: The resolved configuration, with names, hashes and code version.
        group: Everything but the seed.
        name: Display name.
        tags: Data set, backbone, strategy.
        directions: Which way each metric is better, for the best values.
        past: Events of the record from before a resume.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        run_dir: Path,
        config: Mapping[str, Any],
        group: str,
        name: str,
        tags: list[str],
        directions: Directions,
        past: Iterable[Event] = (),
    ) -> None:
        import wandb

        self._wandb = wandb
        self._ended = self._completed = self._broken = self._pending = False
        self._standing, self._pairs = Standing(directions), Pairs()
        for event in past:
            self._remember(event)
        mode, reason = choose_mode(settings.mode)
        if settings.mode == "auto":
            upload = f" Upload with `wandb sync {run_dir}/wandb/offline-run-*`." if mode == "offline" else ""
            sys.stderr.write(f"W&B: {mode} ({reason}).{upload}\n")
        try:
            self._run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                group=(settings.group or group)[:128],
                name=name,
                tags=list(dict.fromkeys(tag[:64] for tag in (*tags, *settings.tags) if tag)),
                job_type="train",
                dir=str(run_dir),
                mode=mode,  # type: ignore[arg-type]
                id=claim_id(run_dir),
                resume="allow",
                reinit="create_new",
                config=finite(config),
                settings=wandb.Settings(silent=True, console="off", **_flushing(wandb.Settings)),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"W&B could not start a run: {error}. Log in with `wandb login`, or use `tracking.mode=offline`."
            ) from error
        for axis in dict.fromkeys(AXES.values()):
            self._run.define_metric(axis)
        for family, axis in AXES.items():
            self._run.define_metric(family, step_metric=axis)

    def log(self, event: Event) -> None:
        """Mirror `step`, `evaluation` and `diagnostics` events as metrics, the `end` event as the summary."""
        try:
            self._mirror(event)
        except Exception as error:  # the record does not depend on its mirror: say so once, and train on
            self._break(error)

    def _mirror(self, event: Event) -> None:
        self._remember(event)
        values = row(event)
        if values:
            self._run.log(values, step=int(event["step"]))
            self._pending = True
        if event["event"] == "evaluation":
            self._run.summary.update(self._standing.summary())
        elif event["event"] == "checkpoint" and self._pending:
            self._run.log({}, step=int(event["step"]), commit=True)  # the client keeps a row until another step comes
            self._pending = False
        elif event["event"] == "end":
            self._end(event)

    def _remember(self, event: Event) -> None:
        if event["event"] == "evaluation":
            self._standing.take(event)
        elif event["event"] == "diagnostics":
            self._pairs.take(event)

    def _end(self, event: Event) -> None:
        self._ended, self._completed = True, event["status"] == "completed"
        rows = self._pairs.rows()
        if rows:
            shown: dict[str, Any] = {"pairs/table": self._wandb.Table(columns=list(COLUMNS), data=rows)}
            for key, matrix in self._pairs.matrices().items():
                shown[f"pairs/{key}"] = self._wandb.Image(
                    heat_map(matrix, self._pairs.tasks, TITLES[key], share=key == "conflicts")
                )
            self._run.log(shown)  # after the rows of the last step
        summary = {f"cost/{key}": value for key, value in event["cost"].items()}
        for split, by_task in event["metrics"].items():
            for task, metrics in by_task.items():
                summary |= {f"selected/{split}/{task}/{metric}": value for metric, value in metrics.items()}
        self._run.summary.update(finite({"status": event["status"], "message": event["message"], **summary}))

    def _break(self, error: Exception) -> None:
        if not self._broken:
            sys.stderr.write(f"W&B does not take events any more ({error}); metrics.jsonl stays complete.\n")
        self._broken = True

    def close(self) -> None:
        """End the run; one that did not complete is marked as failed."""
        if not self._ended and not self._broken:
            self._run.summary.update({"status": "failed"})
        self._run.finish(exit_code=0 if self._completed and not self._broken else 1)


def _flushing(settings: Any) -> dict[str, Any]:
    """What makes the client write its file every second instead of every 15, if it knows of that.

    A kill loses what was not written. A resumed run begins at its last checkpoint, mostly more than a second before.
    """
    name = "x_transaction_log_flush_interval"
    return {name: 1.0} if name in settings.model_fields else {}


def claim_id(run_dir: Path) -> str:
    """The id of the W&B run of a run directory, made up at the first call."""
    file = run_dir / ID_FILE
    if not file.exists():
        file.write_text(secrets.token_hex(4) + "\n")
    return file.read_text().strip()


def annotate(run_dir: Path, settings: TrackingSettings, values: Mapping[str, float | str]) -> None:
    """Add values to the summary of the W&B run of a finished run directory, in a session of its own.

    Offline, the session is one more `offline-run-*`; `wandb sync` uploads sessions of one run in their order.
    """
    import wandb

    mode, _ = choose_mode(settings.mode)
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        dir=str(run_dir),
        mode=mode,  # type: ignore[arg-type]
        id=claim_id(run_dir),
        resume="allow",
        reinit="create_new",
        settings=quiet,
    )
    run.summary.update(dict(values))
    run.finish(exit_code=0)
