"""The command line of scripts/prepare_data.py."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtl.config.entry import guarded
from mtl.datasets.archives import is_archive, unpack
from mtl.datasets.packed import Manifest, verify
from mtl.datasets.prepare import Progress, prepare
from mtl.datasets.prepared import default_directory
from mtl.datasets.sources import DEFAULT_SIZES, LAYOUTS, find_source, parse_size
from mtl.errors import ConfigError, DataError
from mtl.validation import check_choice

KEYS = ("dataset", "source", "out", "size", "layout", "resize", "allow_partial", "workers", "verify")
USAGE = (
    "prepare_data.py dataset=NAME source=DIR_OR_ARCHIVE [out=DIR] [size=HxW] [layout=NAME] [resize=METHOD] "
    "[allow_partial=true] [workers=N], or verify=DIR"
)


def prepare_main(arguments: Sequence[str]) -> int:
    """Prepare a data set, or verify a prepared one; returns the exit code.

    - `dataset` one of `LAYOUTS`; `source` the directory of the raw data, or an archive of it;
    - `out` the prepared directory, by default `$MTL_DATA/prepared/<dataset>-<H>x<W>`;
    - `size` height x width, by default that of the published protocols;
    - `layout` only if the source has more than one; `workers` threads, by default one a processor;
    - `resize` of celeba's images, bilinear or nearest;
    - `allow_partial=true` for a source that has not the official number of samples.
    """
    return guarded(lambda: _main(_parse(arguments)))


def _parse(arguments: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in KEYS or not separator or not value or key in values:
            raise ConfigError(
                f"Arguments should be KEY=VALUE, each KEY once, out of {', '.join(KEYS)}. Found `{argument}`.\n{USAGE}"
            )
        values[key] = value
    return values


def _main(values: dict[str, str]) -> int:
    if "verify" in values:
        if len(values) > 1:
            raise ConfigError(f"`verify` takes no other argument.\n{USAGE}")
        directory = Path(values["verify"])
        _write(describe(verify(directory, "Prepare it again."), directory))
        return 0
    for key in ("dataset", "source"):
        if key not in values:
            raise ConfigError(f"`{key}=` is needed.\n{USAGE}")
    dataset, root = values["dataset"], Path(values["source"])
    check_choice("dataset", dataset, LAYOUTS)
    size = parse_size(values["size"]) if "size" in values else DEFAULT_SIZES[dataset]
    workers = values.get("workers", str(min(os.cpu_count() or 1, 8)))
    if not workers.isdecimal() or int(workers) < 1:
        raise ConfigError(f"`workers` should be an integer of at least 1. Found `workers={workers}`.")
    partial = values.get("allow_partial", "false")
    check_choice("allow_partial", partial, ("true", "false"))
    data_dir = os.environ.get("MTL_DATA", "data")
    out = Path(values["out"]) if "out" in values else default_directory(data_dir, dataset, size)
    unpacked = out.with_name(out.name + ".unpacked")
    if is_archive(root):
        _write(f"unpacking {root}")
        unpack(root, unpacked)
        root = unpacked
    elif not root.exists():
        raise DataError(f"`source={root}` does not exist. Give the directory or archive that holds the raw data.")
    source = find_source(
        dataset, root, size, values.get("layout"), {key: values[key] for key in ("resize",) if key in values}
    )
    counts = ", ".join(f"{count} {split}" for split, count in source.counts.items())
    _write(f"{dataset}, layout {source.layout}: {counts} samples from {source.root} at {size[0]}x{size[1]}")
    source.check_counts(allow_partial=partial == "true")
    with _progress() as progress:
        manifest = prepare(source, dataset, out, progress, int(workers))
    if root == unpacked:
        shutil.rmtree(unpacked, ignore_errors=True)
    _write(describe(manifest, out))
    return 0


def describe(manifest: Manifest, directory: Path) -> str:
    """What is in a prepared set: counts, ranges, valid shares."""
    lines = [f"{directory}: {manifest.dataset}, layout {manifest.layout}, complete"]
    if manifest.note:
        lines.append(f"note: {manifest.note}")
    for split, count in manifest.counts.items():
        lines.append(f"{split}: {count} samples")
        for field in manifest.fields:
            info = manifest.arrays[split][field.name]
            lines.append(
                f"  {field.name:13} {'x'.join(map(str, field.shape)):12} {field.dtype.name:8} "
                f"{info.low:8.3g} to {info.high:<8.3g} {100 * info.valid:6.2f} % valid  {field.info}"
            )
    return "\n".join(lines)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _progress() -> Iterator[Progress]:
    """A live bar on a terminal, a line each tenth of the work otherwise."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        last = ("", -1)

        def line(what: str, done: int, total: int) -> None:
            nonlocal last
            if (what, 10 * done // total) != last:
                last = (what, 10 * done // total)
                _write(f"{what} {done}/{total}")

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
