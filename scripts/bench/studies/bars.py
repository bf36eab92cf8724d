"""The committed list of rows and bars, which a test compares with the rows."""

from pathlib import Path

import yaml

from bench.report import Machine
from bench.rows import bars
from bench.section import NAMES, load

OUT = "scripts/bench/bars.yaml"
HEAD = "# Every row of the benchmark that has a bar: python scripts/benchmark.py only=bars. See CONTRIBUTING.md.\n"


def main(out: Path, machine: Machine, clock: str) -> None:  # noqa: ARG001 - nothing is measured
    """Write the list."""
    found = dict(bars([row for name in NAMES for row in load(name).rows]))
    out.write_text(HEAD + yaml.safe_dump(found, sort_keys=False, width=200), encoding="utf-8")
