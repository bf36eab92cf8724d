"""Where a number comes from: code version, library versions, configuration."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mtl.identity import DEFAULTS, EQUAL, UNNUMERIC

CODE = ("mtl", "configs", "scripts", "pyproject.toml")
"""What of a checkout a number can depend on, for `dirty`."""
APART = ("results", "sweeps")
"""Rooms of the package that no training imports: they read what runs wrote, or start runs."""


@cache
def code_digest() -> str:
    """Digest of the code that a run's numbers come from: the Python files of this package, but for the rooms APART.

    Unlike a commit it does not move with documents, tests, tables or configurations (what a run uses of `configs/` is
    in its own config.yaml and `config_hash`), it knows uncommitted changes, and it needs no git. Taken once a process.
    """
    return source_digest(Path(__file__).parents[1], APART)


def git_state(plugins: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """Commit of the code and whether the working tree differs from it; both None outside a git checkout.

    Args:
        plugins: Packages outside mtl that a run uses, name -> directory. With any there is a further key `plugins`:
            for each the same of its own checkout, and `files`, the digest of its Python files.
    """
    state = _checkout(Path(__file__).parent, [f":/{part}" for part in CODE])
    if plugins:
        state["plugins"] = {
            name: {**_checkout(directory, ["."]), "files": source_digest(directory)}
            for name, directory in sorted(plugins.items())
        }
    return state


def same_code(summary: Mapping[str, Any], plugins: Mapping[str, Path] | None = None) -> bool:
    """Whether a run was made by the code that is here now: by its digest, for runs older than that by the commit.

    Args:
        summary: Of the run.
        plugins: Packages outside mtl that it uses.
    """
    if not summary.get("code"):
        return bool(summary.get("git") == git_state(plugins))
    files = {name: state["files"] for name, state in (summary["git"].get("plugins") or {}).items()}
    now = {name: source_digest(directory) for name, directory in (plugins or {}).items()}
    return bool(summary["code"] == code_digest() and files == now)


def source_digest(directory: Path, apart: Sequence[str] = ()) -> str:
    """Digest of the names and contents of the Python files below a directory, but for some directories in it."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        name = path.relative_to(directory)
        if name.parts[0] not in apart:
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _checkout(directory: Path, parts: Sequence[str]) -> dict[str, Any]:
    try:
        commit = _git(directory, "rev-parse", "HEAD")
        status = _git(directory, "status", "--porcelain", "--", *parts)
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(status)}


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=directory, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def tree_digest(directory: Path) -> str:
    """Digest of the names and contents of all YAML files below a directory."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.yaml")):
        digest.update(f"{path.relative_to(directory)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions that numbers can depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() and torch.version.cuda else "none",
        "numpy": metadata.version("numpy"),
        "scikit-learn": metadata.version("scikit-learn"),
        "machine": platform.machine(),
    }


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash of all that can move a number, except the seed: runs with the same value differ by seed only."""
    kept = {key: value for key, value in config.items() if key in NUMERIC_KEYS}
    return _digest(kept | evaluation_cut(config))


def setting_hash(config: Mapping[str, Any]) -> str:
    """Hash of what a comparison of methods holds fixed: data, network and protocol; not strategy and task selection.

    The optimizer and its settings belong to the method: each may have its own learning rate.
    """
    kept = {key: config.get(key) for key in ("dataset", "backbone", "heads", "trainer", "scheduler")}
    kept["dataset"] = {key: value for key, value in dict(kept["dataset"] or {}).items() if key != "tasks"}
    return _digest(kept | evaluation_cut(config))


def evaluation_cut(config: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation batch size, where results depend on it: legacy metrics, and BatchNorm on the evaluated batch."""
    dataset, backbone = dict(config.get("dataset") or {}), dict(config.get("backbone") or {})
    if dataset.get("legacy_metrics") or backbone.get("norm_eval") == "batch":
        return {"evaluated_in_batches_of": dataset.get("eval_batch_size")}
    return {}


NUMERIC_KEYS = ("dataset", "backbone", "heads", "strategy", "optimizer", "scheduler", "trainer")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_strip(value), sort_keys=True, default=str).encode()).hexdigest()[:16]


def _strip(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if key not in UNNUMERIC}
        return {key: _strip(item) for key, item in kept.items() if not (key in DEFAULTS and item == DEFAULTS[key])}
    return EQUAL.get(value, value) if isinstance(value, str) else value
