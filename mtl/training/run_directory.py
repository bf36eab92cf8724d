"""The directory of one run."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtl.errors import BusyRunError, RunDirectoryError
from mtl.tracking import finite
from mtl.training.checkpoint import write_atomically
from mtl.training.locks import hold, is_held

MARKER = ".mtl-run"


class RunDirectory:
    """Names of the files of a run, and the rules for writing them.

    config.yaml is the resolved configuration, metrics.jsonl the record, summary.json the result (there only when the
    run ended), checkpoints/last.pt the state to continue from,
    checkpoints/best.pt the model of the best validation score (with `trainer.selection=best_val`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.checkpoint = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"

    def claim(self, config_yaml: str) -> None:
        """Make the directory ours; two runs never share one.

        Raises:
            RunDirectoryError: it holds a run already, or cannot be written.
        """
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            (self.path / MARKER).open("x").close()
            self.config.write_text(config_yaml, encoding="utf-8")
        except FileExistsError as error:
            raise RunDirectoryError(
                f"{self.path} holds a run already (or a file of that name is in the way). Continue it with "
                f"`resume={self.path}`, or choose another directory with `hydra.run.dir=...`."
            ) from error
        except OSError as error:
            raise RunDirectoryError(
                f"The run directory {self.path} cannot be written: {error.strerror}. Choose another place with "
                "`paths.output_dir=...` or `hydra.run.dir=...`."
            ) from error

    def reserve(self, config_yaml: str) -> None:
        """Make the directory ready for a run of this configuration, begun or not; doing it twice changes nothing.

        Raises:
            RunDirectoryError: it holds a run of another configuration.
        """
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not self.config.is_file():
            write_atomically(self.config, config_yaml.encode())
        if self.config.read_text(encoding="utf-8") != config_yaml:
            raise RunDirectoryError(
                f"{self.path} holds a run of another configuration. Delete it, or choose another directory."
            )
        (self.path / MARKER).touch()

    def is_claimed(self) -> bool:
        """Whether there is a run, begun or reserved."""
        return (self.path / MARKER).is_file()

    def is_locked(self) -> bool:
        """Whether a process works on the run."""
        return is_held(self.path / MARKER)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            BusyRunError: another process works on it, and did for a second (`is_locked` holds the lock for an instant).
        """
        busy = BusyRunError(f"Another process is working on the run in {self.path}. Wait for it, or stop it first.")
        with hold((self.path / MARKER).open("a"), busy):
            yield

    def check_resumable(self) -> None:
        """Raise RunDirectoryError unless this is a run of ours."""
        missing = [p.name for p in (self.path / MARKER, self.config) if not p.is_file()]
        if missing:
            raise RunDirectoryError(
                f"{self.path} is not a run directory to resume: {', '.join(missing)} not found there. Give the "
                "directory that holds config.yaml and metrics.jsonl of the interrupted run."
            )

    def finished(self) -> dict[str, Any] | None:
        """The summary, if the run has ended."""
        if not self.summary.is_file():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, whole or not at all."""
        text = json.dumps(finite(summary), indent=2, allow_nan=False) + "\n"
        write_atomically(self.summary, text.encode())
