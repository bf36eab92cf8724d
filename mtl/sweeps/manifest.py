"""The manifest of a sweep: its jobs, with the configurations as they were when the sweep started."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtl.errors import RunDirectoryError
from mtl.training.checkpoint import write_atomically
from mtl.training.locks import hold, is_held

MANIFEST = "manifest.jsonl"
LOCK = ".mtl-sweep"


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Attributes:
        number: Its place in the sweep, from 0.
        directory: Of the run, below the sweep's.
        overrides: Of configs/train.yaml.
        config_hash: That the run will have.
        seed: Of the run.
        config: Content of its config.yaml: all values, resolved, and the names of its parts.
    """

    number: int
    directory: str
    overrides: tuple[str, ...]
    config_hash: str
    seed: int
    config: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Manifest:
    """What a sweep is, from its start to its end.

    Attributes:
        identity: Of the command; another command does not continue this sweep.
        command: As a shell would take it; run again, it continues the sweep.
        code: Commit and dirty flag when it started.
        files: Digest of the configuration files when it started.
        jobs: In order.
    """

    identity: str
    command: str
    code: Mapping[str, Any]
    files: str
    jobs: tuple[SweepJob, ...]


class SweepDirectory:
    """The directory of one sweep: the manifest, and a run directory for each job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / MANIFEST

    def job(self, job: SweepJob) -> Path:
        """The run directory of a job."""
        return self.path / job.directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one process that starts jobs of this sweep.

        Raises:
            RunDirectoryError: Another one is, or the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a")
        except OSError as error:
            raise RunDirectoryError(
                f"The sweep directory {self.path} cannot be written: {error.strerror}. Choose another place with "
                "`paths.output_dir=...` or `hydra.sweep.dir=...`."
            ) from error
        busy = RunDirectoryError(
            f"Another process runs the sweep in {self.path}. Watch it with `python scripts/sweep.py "
            f"dir={self.path}`, or stop it first."
        )
        with hold(lock, busy):
            yield

    def is_locked(self) -> bool:
        """Whether a process starts jobs of this sweep."""
        return is_held(self.path / LOCK)

    def write(self, manifest: Manifest) -> None:
        """Write the manifest, whole or not at all: a line about the sweep, then a line a job."""
        head = {key: value for key, value in vars(manifest).items() if key != "jobs"}
        lines = [head, *map(asdict, manifest.jobs)]
        write_atomically(self.manifest, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def add(self, job: SweepJob) -> None:
        """Append a job; for sweeps that choose their jobs on the way."""
        manifest = self.read()
        self.write(Manifest(**{**vars(manifest), "jobs": (*manifest.jobs, job)}))

    def read(self) -> Manifest:
        """The manifest.

        Raises:
            RunDirectoryError: There is none, or it is damaged.
        """
        if not self.manifest.is_file():
            raise RunDirectoryError(f"{self.path} is not the directory of a sweep: it holds no {MANIFEST}.")
        try:
            head, *jobs = map(json.loads, self.manifest.read_text(encoding="utf-8").splitlines())
            return Manifest(**head, jobs=tuple(SweepJob(**{**j, "overrides": tuple(j["overrides"])}) for j in jobs))
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(
                f"{self.manifest} is damaged ({type(error).__name__}: {error}). Its run directories are usable: "
                "continue them one by one with `resume=RUN_DIR`, or start the sweep in another directory with "
                "`hydra.sweep.dir=...`."
            ) from error


def directory_names(varied: Sequence[Mapping[str, str]]) -> list[str]:
    """A readable, unique name for each job: its number, and what varies between jobs.

    Args:
        varied: Key -> value as text, for each job.
    """
    keys = list(dict.fromkeys(key for job in varied for key in job))
    changing = [key for key in keys if len({job.get(key) for job in varied}) > 1]
    short = [key.rpartition(".")[2].rpartition("/")[2].lstrip("+~") for key in changing]
    labels = {
        key: name if short.count(name) == 1 else key.lstrip("+~").replace("/", "-")
        for key, name in zip(changing, short, strict=True)
    }
    width = len(str(max(len(varied) - 1, 0)))
    names = []
    for number, job in enumerate(varied):
        parts = [f"{labels[key]}={_plain(job[key])}" for key in changing if key in job]
        names.append("_".join([f"{number:0{width}d}", *parts])[:120])
    return names


def _plain(text: str) -> str:
    """`text` in characters that need no quoting anywhere."""
    return "".join("-" if c in "/," else c for c in text if (c.isascii() and c.isalnum()) or c in "/,.+-_=")
