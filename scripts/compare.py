"""Table and figures of finished runs: `python scripts/compare.py runs=DIR [out=DIR] [allow_mixed=true]`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mtl.errors import ConfigError, UserError
from mtl.results.figures import common_primary_metric, learning_curves, scatter_two_tasks
from mtl.results.rendering import to_csv, to_markdown, to_rich
from mtl.results.runs import load_runs
from mtl.results.tables import compare

KEYS = ("runs", "out", "allow_mixed")


def parse(arguments: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in KEYS or not separator or not value:
            raise ConfigError(f"Arguments should be KEY=VALUE with a KEY of {', '.join(KEYS)}. Found `{argument}`.")
        values[key] = value
    if "runs" not in values:
        raise ConfigError(f"Argument `runs=DIR` is missing. Valid arguments: {', '.join(KEYS)}.")
    if values.setdefault("allow_mixed", "false").lower() not in ("true", "false"):
        raise ConfigError(f"`allow_mixed` should be true or false. Found `{values['allow_mixed']}`.")
    return values


def write_comparison(root: Path, out: Path, allow_mixed: bool = False) -> None:
    """Print the table of all runs below `root`; write it and the figures into `out`."""
    runs = load_runs(root)
    comparison = compare(runs, allow_mixed=allow_mixed)
    console = Console()
    console.print(to_rich(comparison))
    for note in comparison.footnotes:
        console.print(f"- {note}", highlight=False, markup=False, style="dim")
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "table.md", out / "table.csv"]
    written[0].write_text(to_markdown(comparison), encoding="utf-8")
    written[1].write_text(to_csv(comparison), encoding="utf-8")
    metric = common_primary_metric(comparison)
    if metric is not None:
        written += scatter_two_tasks(comparison, out / f"{metric}.png", metric)
    if any(run.completed for run in runs):
        split = "val" if any("val" in run.metrics for run in runs) else "test"
        written += learning_curves(runs, out / "curves.png", split)
    print("\nWritten:", *written, sep="\n  ")


def main(arguments: Sequence[str]) -> None:
    values = parse(arguments)
    root = Path(values["runs"])
    write_comparison(root, Path(values.get("out", root)), values["allow_mixed"].lower() == "true")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"Error: {error}")
