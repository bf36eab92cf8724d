"""The mirror at Weights & Biases."""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.errors import ConfigError
from mtl.tracking.base import Event, Tracker, finite
from mtl.tracking.settings import TrackingSettings


class WandbTracker(Tracker):
    """One W&B run for one run directory; resumed runs continue it under the same id.

    The id is kept in `wandb_id` in the run directory. Nothing is ever read back from W&B.

    Args:
        settings: Project, entity, mode, tags.
        run_dir: Where W&B writes its files (`wandb/` below it).
        config: The resolved configuration.
        group: Everything but the seed.
        name: Display name.
        tags: Data set and strategy.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        run_dir: Path,
        config: Mapping[str, Any],
        group: str,
        name: str,
        tags: list[str],
    ) -> None:
        import wandb

        self._completed = self._broken = False
        id_file = run_dir / "wandb_id"
        run_id = id_file.read_text().strip() if id_file.exists() else secrets.token_hex(4)
        id_file.write_text(run_id + "\n")
        try:
            self._run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                group=settings.group or group,
                name=name,
                tags=[*tags, *settings.tags],
                job_type="train",
                dir=str(run_dir),
                mode=settings.mode,  # type: ignore[arg-type]
                id=run_id,
                resume="allow",
                reinit="create_new",
                config=dict(config),
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"W&B could not start a run: {error}. Log in with `wandb login`, or use `tracking.mode=offline`."
            ) from error

    def log(self, event: Event) -> None:
        """Mirror `step` and `evaluation` events as metrics, the `end` event as the summary."""
        try:
            self._mirror(event)
        except Exception as error:  # the record does not depend on its mirror: say so once, and train on
            if not self._broken:
                sys.stderr.write(f"W&B does not take events any more ({error}); metrics.jsonl stays complete.\n")
            self._broken = True

    def _mirror(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("step", "evaluation"):
            keys = {"step": "train", "evaluation": "eval"}
            values = _flatten({k: v for k, v in event.items() if k not in ("event", "time", "groups")}, keys[kind])
            self._run.log(values, step=int(event["step"]))
        elif kind == "end":
            self._completed = event["status"] == "completed"
            self._run.summary.update(finite({k: v for k, v in event.items() if k != "event"}))

    def close(self) -> None:
        """End the run; one that did not complete is marked as failed."""
        self._run.finish(exit_code=0 if self._completed and not self._broken else 1)


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in values.items():
        name = f"{prefix}/{key}"
        if isinstance(value, Mapping):
            flat.update(_flatten(value, name))
        elif isinstance(value, int | float):
            flat[name] = value
    return flat
