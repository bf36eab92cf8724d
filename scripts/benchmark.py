"""Speed of training steps and of loading, against the bare passes, TorchJD, literal loops and torch's DataLoader.

    python scripts/benchmark.py [out=docs/results/performance.md] [rounds=30] [threads=2] [only=SECTION]

SECTION is steps, torchjd, literal, solver, vectors, loader, reading, scenes or diagnostics; all of them by default.
Prints a table and writes it with machine, definitions and spread to `out`. A missed bar is a result, not an error.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import Machine, to_markdown, to_rich, verdict
from bench.rows import SECTIONS, build, judge, rows
from bench.steps import prepare
from bench.timing import MIN_ROUNDS, measure
from rich.console import Console

from mtl.config import guarded
from mtl.errors import ConfigError

DEFAULTS = {"out": "docs/results/performance.md", "rounds": "30", "threads": "2", "only": ""}
WARMUP = 2
POOLS = (
    (("steps", "torchjd", "literal"), 30, 110.0),
    (("solver",), 30, 60.0),
    (("vectors",), 3, 60.0),
    (("loader",), 8, 30.0),
    (("reading",), 8, 30.0),
    (("scenes",), 8, 30.0),
    (("diagnostics",), 30, 30.0),
)
"""Sections that are timed side by side, rounds at most (a turn of the DataLoader takes a second, of the vectors half a
minute; one round will do), and the seconds after which no further round begins."""


def parse(arguments: Sequence[str]) -> dict[str, str]:
    values = dict(DEFAULTS)
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in DEFAULTS or not separator or not value:
            raise ConfigError(f"Arguments should be KEY=VALUE with a KEY of {', '.join(DEFAULTS)}. Found `{argument}`.")
        values[key] = value
    for key in ("rounds", "threads"):
        if not values[key].isdecimal() or int(values[key]) < 1:
            raise ConfigError(f"`{key}` should be an integer of at least 1. Found `{values[key]}`.")
    if values["only"] and values["only"] not in SECTIONS:
        raise ConfigError(f"`only` should be one of {', '.join(SECTIONS)}. Found `{values['only']}`.")
    return values


def main() -> int:
    values = parse(sys.argv[1:])
    rounds = int(values["rounds"])
    prepare(int(values["threads"]))
    machine = Machine.here()
    wanted = [row for row in rows() if values["only"] in ("", row.section)]
    outcomes = []
    for sections, most, limit in POOLS:
        pool = [row for row in wanted if row.section in sections]
        if pool:
            names = dict.fromkeys(name for row in pool for name in row.contenders)
            warmup, least = (0, 1) if "vectors" in sections else (WARMUP, MIN_ROUNDS)
            turns = rounds if "steps" in sections else min(rounds, most)
            seconds = measure({name: build(name) for name in names}, turns, warmup, limit, sections[0], least)
            outcomes += [judge(row, seconds) for row in pool]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(to_rich(outcomes))
    out = Path(values["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(to_markdown(outcomes, machine, sys.argv[1:]), encoding="utf-8")
    console.print(f"Written: {out}", verdict(outcomes), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
