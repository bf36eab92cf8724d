"""The command line of scripts/report.py: the HTML report of a directory of runs."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtl.config.baselines import baseline_commands
from mtl.config.entry import guarded
from mtl.config.predictions import draw_runs
from mtl.errors import ConfigError
from mtl.results.comparison import Comparison
from mtl.results.report import gather, read_picture, render
from mtl.results.report.material import Picture
from mtl.results.runs import Run, load_runs

KEYS = ("runs", "out", "split", "allow_mixed", "predictions")
USAGE = (
    "report.py runs=DIR [out=report.html] [split=test|val] [allow_mixed=true] "
    "[predictions=found|true|false|FILE.png,...]"
)
FOUND = "predictions*.png"
"""Pictures that are taken from the directory of the runs, unless `predictions` says otherwise."""
MOST_DRAWN = 5
"""Multi-task methods in a picture that the report draws: `uniform` and the best ones by Delta_m."""


@dataclass(frozen=True)
class Options:
    """The arguments."""

    runs: Path
    out: Path
    split: str
    allow_mixed: bool
    predictions: str


def report_main(arguments: Sequence[str]) -> int:
    """Write the report; returns the exit code.

    - `runs` the directory of the runs, `out` the page, by default `report.html` in the working directory;
    - `split` of the final metrics; `allow_mixed=true` accepts runs of several settings;
    - `predictions`: `found` (default) embeds pictures `predictions*.png` that lie in the directory of the runs; `true`
      draws one from checkpoints and data; `false` shows none; or files, separated by commas.
    """
    return guarded(lambda: _main(parse(arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """Read KEY=VALUE arguments.

    Raises:
        ConfigError: An argument is unknown, given twice or of no legal value, or `runs` is missing.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in KEYS or not separator or not value or key in values:
            raise ConfigError(
                f"Arguments should be KEY=VALUE out of {', '.join(KEYS)}, each once. Found `{argument}`.\n{USAGE}"
            )
        values[key] = value
    if "runs" not in values:
        raise ConfigError(f"`runs=DIR` is missing.\n{USAGE}")
    mixed = values.get("allow_mixed", "false").lower()
    if mixed not in ("true", "false"):
        raise ConfigError(f"`allow_mixed` should be true or false. Found `{values['allow_mixed']}`.")
    out = Path(values.get("out", "report.html"))
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"`out` should end in .html. Found `out={out}`.")
    split = values.get("split", "test")
    if split not in ("test", "val"):
        raise ConfigError(f"`split` should be test or val. Found `split={split}`.")
    return Options(Path(values["runs"]), out, split, mixed == "true", values.get("predictions", "found"))


def _main(options: Options) -> int:
    runs = load_runs(options.runs)
    commands = baseline_commands(runs)
    material = gather(runs, split=options.split, allow_mixed=options.allow_mixed, commands=commands)
    material = replace(material, pictures=tuple(_pictures(options, material.comparison)))
    page = render(material).encode("utf-8")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    part = options.out.with_name(options.out.name + ".part")
    part.write_bytes(page)
    part.replace(options.out)
    methods = len(material.rows)
    sys.stdout.write(f"Written: {options.out} ({len(page) / 1000:.0f} kB, {len(runs)} runs, {methods} methods)\n")
    return 0


def _pictures(options: Options, comparison: Comparison) -> list[Picture]:
    """What `predictions` asks for."""
    if options.predictions == "false":
        return []
    if options.predictions == "found":
        return [read_picture(path) for path in sorted(options.runs.glob(FOUND))]
    if options.predictions != "true":
        return [read_picture(Path(name)) for name in options.predictions.split(",")]
    with tempfile.TemporaryDirectory() as directory:
        png, _ = draw_runs(_drawn(comparison), options.split, None, Path(directory) / "predictions.png")
        return [read_picture(png, f"single samples of split {options.split}, the first seed of each method")]


def _drawn(comparison: Comparison) -> list[Path]:
    """One run of each single-task network and of a few methods; of the same seed as far as they have it."""
    rows = [row for row in comparison.rows if row.method.completed]
    several = [row for row in rows if not row.method.runs[0].is_single_task][:MOST_DRAWN]
    single = [run for row in rows if row.method.is_baseline for run in row.method.completed]
    chosen: list[Run] = [min(row.method.completed, key=lambda run: run.seed) for row in several]
    seed = chosen[0].seed if chosen else min((run.seed for run in single), default=0)
    first: dict[tuple[str, ...], Run] = {}
    for run in sorted(single, key=lambda run: (run.seed != seed, run.seed)):
        first.setdefault(tuple(run.tasks), run)
    return [run.path for run in [*first.values(), *chosen]]
