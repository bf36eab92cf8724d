"""Making a packed set out of a raw source: atomic, resumable, checked."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtl.datasets.packed import (
    FORMAT,
    MANIFEST,
    Array,
    ArrayInfo,
    Field,
    Manifest,
    array_path,
    inspect,
    open_array,
    read_manifest,
)
from mtl.datasets.sources.base import Sample, Source
from mtl.errors import DataError

PLAN = "plan.json"
DONE = "done.txt"
CHUNK = 32
"""Samples written between two marks that a killed preparation continues from."""

Progress = Callable[[str, int, int], None]
"""(what, done, total)."""


def prepare(source: Source, dataset: str, out: Path, progress: Progress, workers: int = 1) -> Manifest:
    """Read a source from end to end into `out`.

    Work is done in `<out>.partial`, which gets its final name when everything is written and checked. If the process
    is killed, the same call continues after the last whole chunk; with another source, size or option it starts anew.
    A set that is already there is kept if it was made from the same source with the same options.

    Args:
        source: The raw data.
        dataset: Name of the data set.
        out: Directory of the prepared set.
        progress: Called now and then.
        workers: Threads that read.

    Raises:
        DataError: a raw file is bad, or `out` holds something else.
    """
    source.check()
    plan = _plan(source, dataset)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        return _keep(out, plan)
    partial = out.with_name(out.name + ".partial")
    with _locked(partial, plan):
        chunks = [
            (split, start, min(start + CHUNK, count))
            for split, count in source.counts.items()
            for start in range(0, count, CHUNK)
        ]
        done = set((partial / DONE).read_text(encoding="utf-8").split()) if (partial / DONE).exists() else set()
        arrays = {split: _allocate(partial, split, count, source.fields) for split, count in source.counts.items()}
        total, finished = sum(source.counts.values()), 0
        with ThreadPoolExecutor(workers) as pool, (partial / DONE).open("a", encoding="utf-8") as marks:
            for split, start, end in chunks:
                key = f"{split}:{start}"
                if key not in done:
                    samples = pool.map(lambda index, split=split: source.read(split, index), range(start, end))
                    for index, sample in zip(range(start, end), samples, strict=True):
                        _store(arrays[split], index, sample, source.fields)
                    for array in arrays[split].values():
                        array.flush()  # type: ignore[attr-defined]
                    marks.write(key + "\n")
                    marks.flush()
                finished += end - start
                progress("reading", finished, total)
        del arrays
        manifest = _inspect_all(source, dataset, plan, partial, progress)
        manifest.write(partial)
        partial.rename(out)
        (out / PLAN).unlink()
        (out / DONE).unlink()
    return manifest


def _plan(source: Source, dataset: str) -> dict[str, Any]:
    """Everything that the prepared bytes depend on."""
    plan = {
        "format": FORMAT,
        "dataset": dataset,
        "layout": source.layout,
        "options": source.options,
        "source": {"fingerprint": source.fingerprint(), "files": len(source.files())},
        "counts": source.counts,
        "fields": [[field.name, field.kind, field.shape] for field in source.fields],
    }
    loaded: dict[str, Any] = json.loads(json.dumps(plan))
    return loaded


def _keep(out: Path, plan: dict[str, Any]) -> Manifest:
    remedy = f"Give another `out=`, or remove `{out}` first."
    if not (out / MANIFEST).is_file():
        raise DataError(f"`{out}` exists and is no prepared data set. {remedy}")
    manifest = read_manifest(out, remedy)
    there = {key: json.loads(json.dumps(getattr(manifest, key))) for key in ("dataset", "layout", "options", "source")}
    differing = [key for key, value in there.items() if value != plan[key]]
    if differing:
        key = differing[0]
        raise DataError(f"`{out}` was prepared with `{key}` = {there[key]}; asked for is {plan[key]}. {remedy}")
    return manifest


@contextmanager
def _locked(partial: Path, plan: dict[str, Any]) -> Iterator[None]:
    """The working directory, ours alone; emptied if it belongs to another plan."""
    partial.mkdir(parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"Another process is preparing `{partial}`. Wait for it, or stop it first.") from error
        if not _is_plan(partial / PLAN, plan):
            if any(partial.iterdir()) and not (partial / PLAN).exists():
                raise DataError(f"`{partial}` is in the way and not ours. Remove it, or give another `out=`.")
            for path in partial.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            (partial / PLAN).write_text(json.dumps(plan), encoding="utf-8")
        yield
    finally:
        os.close(handle)


def _is_plan(path: Path, plan: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == plan)
    except (OSError, ValueError):
        return False


def _allocate(partial: Path, split: str, count: int, fields: tuple[Field, ...]) -> dict[str, Array]:
    for field in fields:
        path = array_path(partial, split, field)
        with path.open("ab") as stream:
            stream.truncate(count * field.sample_bytes)
    return {field.name: open_array(partial, split, field, count, "r+") for field in fields}


def _store(arrays: dict[str, Array], index: int, sample: Sample, fields: tuple[Field, ...]) -> None:
    for field in fields:
        value = np.asarray(sample[field.name])
        assert value.shape == field.shape, f"{field.name}: source gave {value.shape}, declared {field.shape}"
        assert value.dtype == field.dtype, f"{field.name}: source gave {value.dtype}, declared {field.dtype}"
        arrays[field.name][index] = value


def _inspect_all(source: Source, dataset: str, plan: dict[str, Any], partial: Path, progress: Progress) -> Manifest:
    found: dict[str, dict[str, ArrayInfo]] = {}
    jobs = [(split, field) for split in source.counts for field in source.fields]
    for number, (split, field) in enumerate(jobs, start=1):
        found.setdefault(split, {})[field.name] = inspect(partial, split, field, source.counts[split])
        progress("checking", number, len(jobs))
    return Manifest(
        dataset=dataset,
        layout=source.layout,
        note=source.note,
        options=plan["options"],
        source=plan["source"],
        fields=source.fields,
        counts=plan["counts"],
        arrays=found,
    )
