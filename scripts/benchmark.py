"""Speed and memory as ratios: training steps, loading, memory, start-up, against bare passes, TorchJD, literal loops.

    python scripts/benchmark.py [out=FILE] [only=NAME[,NAME]] [rounds=N] [threads=2] [share=1.0] [clock=wall]

Without `only` every section of docs/results/performance.md is measured (about 15 minutes on two quiet cores) and
written there; `only` names some of them, and writes where `out` says. `share` scales the time limit of
every section; `clock=cpu` with threads=1 reads CPU seconds, for a busy machine. Further
studies, each with a page of its own in docs/results: only=scaling, only=profiles, only=seeds, only=compiled;
only=bars writes the list of bars that a test compares.
A missed bar is a result, not an error.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

from bench.report import Machine, to_markdown, to_rich, verdict
from bench.rows import judge
from bench.section import NAMES, load, run
from bench.timing import CLOCKS
from rich.console import Console

from mtl.config import guarded
from mtl.errors import ConfigError

DEFAULTS = {"out": "", "rounds": "", "threads": "2", "only": "", "share": "1.0", "clock": "wall"}
PAGE = "docs/results/performance.md"
STUDIES = ("scaling", "profiles", "seeds", "compiled", "bars")
"""Modules of `bench.studies`; each has a `main` that writes the file `OUT`."""


def parse(arguments: Sequence[str]) -> dict[str, str]:
    values = dict(DEFAULTS)
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in DEFAULTS or not separator or not value:
            raise ConfigError(f"Arguments should be KEY=VALUE with a KEY of {', '.join(DEFAULTS)}. Found `{argument}`.")
        values[key] = value
    for key in ("rounds", "threads"):
        if values[key] and (not values[key].isdecimal() or int(values[key]) < 1):
            raise ConfigError(f"`{key}` should be an integer of at least 1. Found `{values[key]}`.")
    if not values["share"].replace(".", "", 1).isdecimal() or float(values["share"]) <= 0:
        raise ConfigError(f"`share` should be a number above 0. Found `{values['share']}`.")
    if values["clock"] not in CLOCKS:
        raise ConfigError(f"`clock` should be one of {', '.join(CLOCKS)}. Found `{values['clock']}`.")
    names = values["only"].split(",") if values["only"] else []
    if not set(names) <= {*NAMES, *STUDIES} or (len(names) > 1 and set(names) & set(STUDIES)):
        raise ConfigError(
            f"`only` should be names out of {', '.join(NAMES)}, or one of {', '.join(STUDIES)}. "
            f"Found `{values['only']}`."
        )
    return values


def main() -> int:
    values = parse(sys.argv[1:])
    threads = int(values["threads"])
    machine = Machine.here(threads)
    console = Console(width=None if sys.stdout.isatty() else 140)
    names = values["only"].split(",") if values["only"] else list(NAMES)
    if names[0] in STUDIES:
        study = import_module(f"bench.studies.{names[0]}")
        out = Path(values["out"] or study.OUT)
        out.parent.mkdir(parents=True, exist_ok=True)
        study.main(out, machine, values["clock"])
        console.print(f"Written: {out}")
        return 0
    rounds = int(values["rounds"]) if values["rounds"] else None
    started, outcomes = time.monotonic(), {}
    for name in names:
        began = time.monotonic()
        try:
            measured = run(name, threads, rounds, float(values["share"]), values["clock"])
        except BrokenProcessPool:
            console.print(f"{name}: the process was killed, most likely for lack of memory. Its rows are not measured.")
            measured = {}
        outcomes[name] = [judge(row, measured) for row in load(name).rows]
        console.print(to_rich(name, outcomes[name]))
        console.print(f"{name}: {time.monotonic() - began:.0f} s\n")
    minutes = (time.monotonic() - started) / 60
    if values["out"] or not values["only"]:
        out = Path(values["out"] or PAGE)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(to_markdown(outcomes, machine, sys.argv[1:], minutes), encoding="utf-8")
        console.print(f"Written: {out}")
    everything = [outcome for found in outcomes.values() for outcome in found]
    console.print(f"{verdict(everything)}, {minutes:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
