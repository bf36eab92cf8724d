"""The measured tables: for the terminal, and as a Markdown page that says on what machine they were measured."""

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import yaml
from rich import box
from rich.table import Table

from bench.rows import Outcome
from bench.section import load
from bench.timing import Spread
from mtl.training.provenance import git_state

NOTES, READINGS = (Path(__file__).with_name(name) for name in ("notes.yaml", "readings.yaml"))
COLUMNS = ("comparison", "measured", "IQR", "bar", "verdict", "first", "second", "rounds")
MARKS = {None: "", True: "met", False: "MISSED"}
TEXT = """\
What is compared:

- **bare**: forward, the backward of each task's loss to the shared features and its head, then one backbone backward
  per task. No aggregation, no optimizer step.
- **uniform**, **plain step**: an ordinary training step by hand: forward, backward of the summed loss, Adam. Adam by
  hand, and for TorchJD and literal loops, is torch's own, fused.
- **ours**: the whole `Strategy.step` of a file in `configs/strategy/`, built as a training run builds it, with the
  Adam of `configs/optimizer/adam.yaml` (the same kernel, called directly).
- **TorchJD**: `autojac.mtl_backward` and `jac_to_grad` with its own aggregator at its defaults (vmap over tasks), the
  same with `parallel_chunk_size=1` (without vmap), or its scalarizer on the stacked losses; then Adam.
- **literal loop**: written from the description of the methods in LibMTL and nash-mtl: full backward passes from
  stacked losses with the graph kept, inner products tensor by tensor in Python, one more full backward; then Adam.

How: each section in a process of its own (the small networks' in two, one after the other, which average where
tensors happen to lie), all its contenders in that one process, each with a network, data and optimizer of its own and
the same initial weights. After warm-up, in every round every contender has one turn, in a
new order; a ratio is taken within each round. `measured` is the median over rounds, IQR its quartiles; `first` and
`second` are the medians of the two sides. A bar is met when the median meets it. The garbage collector is off while a
contender runs; `torch.use_deterministic_algorithms` is on for all, as in a training run; on Linux freed memory stays
with the process (not in the memory section), since page faults would hit contenders by chance. Sections have a time
limit: a slow machine measures fewer rounds. Load from other processes disturbs runs with more than one thread most:
see the load average. `not measured`: an option or package that is not in this version.
"""


@dataclass(frozen=True)
class Machine:
    """Where and when; made before anything is timed."""

    cpu: str
    cores: int
    threads: int
    load: str
    date: str

    @classmethod
    def here(cls, threads: int) -> "Machine":
        """This machine, now."""
        load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
        date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
        return cls(cpu_name(), os.cpu_count() or 1, threads, load, date)

    def facts(self, command: str) -> list[str]:
        """What stands at the head of a page of results, as a list in Markdown."""
        git = git_state()
        commit = f"{git['commit'] or 'none'}{' with uncommitted changes' if git['dirty'] else ''}"
        facts = {
            "machine": f"{self.cpu}, {self.cores} cores, {platform.platform()}",
            "software": f"Python {platform.python_version()}, torch {torch.__version__}, TorchJD {_version('torchjd')}",
            "threads": f"{self.threads}, load average at start {self.load}",
            "date": self.date,
            "commit": commit,
            "command": f"`{command}`",
        }
        return [f"- {key}: {value}" for key, value in facts.items()]


def verdict(outcomes: Sequence[Outcome]) -> str:
    """`N of M bars met`."""
    judged = [outcome for outcome in outcomes if outcome.met is not None]
    absent = sum(outcome.number is None for outcome in outcomes if outcome.row.bar is not None)
    rest = f"; {absent} not measured" if absent else ""
    return f"{sum(bool(outcome.met) for outcome in judged)} of {len(judged)} bars met{rest}"


def to_rich(name: str, outcomes: Sequence[Outcome]) -> Table:
    """The table of one section."""
    table = Table(box=box.SIMPLE_HEAD, title=load(name).title, title_justify="left")
    for position, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=position > 0)
    for outcome in outcomes:
        table.add_row(*_cells(outcome), style="red" if outcome.met is False else None)
    return table


def to_markdown(
    outcomes: Mapping[str, Sequence[Outcome]], machine: Machine, arguments: Sequence[str], minutes: float
) -> str:
    """The page."""
    command = f"python scripts/benchmark.py {shlex.join(arguments)}".strip()
    everything = [outcome for found in outcomes.values() for outcome in found]
    lines = [
        "# Performance",
        "",
        *machine.facts(command),
        f"- duration: {minutes:.1f} minutes",
        "",
        f"{verdict(everything)}.",
    ]
    lines += ["", TEXT]
    for name, found in outcomes.items():
        section = load(name)
        lines += [f"## {section.title}", "", section.text, ""]
        lines += [line(COLUMNS), line([":--", *["--:"] * (len(COLUMNS) - 1)])]
        lines += [*(line(_cells(outcome)) for outcome in found), ""]
    return "\n".join([*lines, *_missed(everything)])


def reading(study: str, part: str) -> str:
    """What a study's numbers say, from readings.yaml: written by a person who has looked at them."""
    found = yaml.safe_load(READINGS.read_text(encoding="utf-8")).get(study, {}).get(part, "")
    return " ".join(found.split())


def _missed(outcomes: Sequence[Outcome]) -> list[str]:
    """The missed rows with what explains them and what was tried, from notes.yaml; rows of one explanation together."""
    missed = [outcome.row.key for outcome in outcomes if outcome.met is False]
    if not missed:
        return []
    notes = yaml.safe_load(NOTES.read_text(encoding="utf-8")) or {}
    explained: dict[str, list[str]] = {}
    for key in missed:
        texts = [" ".join(text.split()) for start, text in notes.items() if key.startswith(start)]
        explained.setdefault(" ".join(texts) or "no explanation yet.", []).append(f"**{key}**")
    return ["## Missed bars", "", *(f"- {', '.join(keys)}: {text}" for text, keys in explained.items()), ""]


def _cells(outcome: Outcome) -> list[str]:
    row = outcome.row
    if outcome.number is None or outcome.above is None:
        return [row.name, "not measured", "", _bar(outcome), "", "", "", ""]
    scale, digits, unit = (1e3, 3, " ms") if row.kind == "value" else (1, 3 if row.kind != "difference" else 2, "")
    unit = " s" if row.kind == "difference" else unit
    number = f"{outcome.number.median * scale:.{digits}f}{unit}"
    spread = f"{outcome.number.low * scale:.{digits}f}-{outcome.number.high * scale:.{digits}f}"
    sides = ["", ""] if row.kind == "value" else [_side(outcome, side) for side in (outcome.above, outcome.below)]
    return [row.name, number, spread, _bar(outcome), MARKS[outcome.met], *sides, str(outcome.rounds)]


def _bar(outcome: Outcome) -> str:
    bar, kind = outcome.row.bar, outcome.row.kind
    if bar is None:
        return ""
    shown = {"value": f"{bar * 1e3:g} ms", "difference": f"{bar:g} s"}.get(kind, f"{bar:g}")
    return f"{'>=' if kind == 'speedup' else '<='} {shown}"


def _side(outcome: Outcome, spread: Spread | None) -> str:
    assert spread is not None
    value, kind = spread.median, outcome.row.kind
    if kind == "bytes":
        return f"{value / 1e6:.0f} MB"
    if kind == "speedup":
        return f"{value / 1e3:.1f} k/s" if value > 1e4 else f"{value:.0f} /s"
    return f"{value:.2f} s" if value > 1 else f"{value * 1e3:.2f} ms" if value > 1e-4 else f"{value * 1e6:.2f} us"


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed (its rows are left out)"


def cpu_name() -> str:
    """Of this machine."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
