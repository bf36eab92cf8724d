"""The measured table: for the terminal, and as a Markdown page that says on what machine it was measured."""

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich import box
from rich.table import Table

from bench.rows import Outcome
from bench.timing import Spread
from mtl.training.provenance import git_state

SHORT = ("comparison", "ratio (IQR)", "bar", "", "first", "second")
COLUMNS = ("comparison", "ratio", "IQR", "bar", "", "first", "IQR", "second", "IQR")
TEXT = """\
LeNet (`backbone=lenet`), linear heads, two tasks, batch 256 of random 28x28 images and classes from a fixed seed; every
contender has a network of its own with the same initial weights and trains it with the fused Adam of
`configs/optimizer/adam.yaml`.

- **bare**: forward, the backward of each task's loss to the shared features and its head, then one backbone
  backward per task. No aggregation, no optimizer step.
- **uniform**: an ordinary training step by hand: forward, backward of the summed loss, Adam.
- **ours**: the whole `Strategy.step`, Adam included, of each file in `configs/strategy/`, built as a training run
  builds it. Gradient strategies are held against bare, the others against uniform. Sequential ones take several
  optimizer steps a batch: their time is per optimizer step.
- **TorchJD**: `autojac.mtl_backward` and `jac_to_grad` with its own aggregator at its defaults (vmap over tasks), the
  same with `parallel_chunk_size=1` (without vmap), or its scalarizer on the stacked losses; then Adam.
- **literal loop**: full backward passes from stacked losses with the graph kept, inner products tensor by tensor in
  Python, one more full backward; then Adam.
- **weights from a Gramian**: the method alone, at its defaults, on 20 Gramians in turn (rows of normal numbers, norms
  up to 100 apart); the bar is for the time itself.
- **given gradients, literal vectors**: PCGrad alone on 40 vectors of 11 million normal float32 numbers. Ours: Gramian,
  coefficients, one matrix-vector product. Literal: the paper's two loops over whole vectors.
- **Loader, DataLoader**: shuffled batches of 256 out of 60,000 random 28x28 images. DataLoader: uint8 images
  through PIL, `ToTensor` and `Normalize`; 0 and 2 workers, the faster one counts; start-up of workers not timed.
- **packed, .npy files**: shuffled batches of 2 (nyuv2) or 8 out of 48 frames of random pixels, all in the page cache.
  Packed: the frames prepared at that size, image and three targets as the losses read them, no augmentation. .npy:
  MTAN's layout in float32 at 288x384, four files a frame, resized where the size is another; 0 and 2 workers, the
  faster one counts.
- **Loader with augmentation, step**: `configs/dataset/nyuv2_small.yaml` on those frames, three tasks: time of a batch
  out of the loader, and of `Strategy.step` of `uniform`, `backbone=unet_small heads=conv`, on a batch that is there.
- **diagnostics, path**: what `mtl.diagnostics` does around a step that it looks at (`tracking.diagnostics.every`), and
  in every optimizer step if the path is recorded. The bars are 2 % of training: `every: auto` looks at one step of 120.

One process, after warm-up. In each round every contender has one turn (4 steps in a row), in a new order; a ratio is
taken within each round. Shown are medians over rounds, and the quartiles (IQR) of times and of ratios. The garbage
collector is off while a contender runs; `torch.use_deterministic_algorithms` is on for all, as in a training run; on
Linux, freed memory stays with the process, since page faults would hit contenders by chance. A ratio below 1 means that
the first is faster; for loaders it is a speed-up. A bar is met when the median meets it. Rows that miss their bar stay
listed. Load from other processes disturbs runs with more than one thread most: see the load average above.
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
    def here(cls) -> "Machine":
        """This machine, now."""
        load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
        date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
        return cls(_cpu(), os.cpu_count() or 1, torch.get_num_threads(), load, date)


def verdict(outcomes: Sequence[Outcome]) -> str:
    """`N of M bars met`."""
    judged = [outcome for outcome in outcomes if outcome.met is not None]
    return f"{sum(bool(outcome.met) for outcome in judged)} of {len(judged)} bars met"


def to_rich(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for position, column in enumerate(SHORT):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=position > 0)
    section = ""
    for outcome in outcomes:
        if section and outcome.row.section != section:
            table.add_section()
        section = outcome.row.section
        style = "red" if outcome.met is False else None
        name, ratio, spread, bar, mark, first, _, second, _ = _cells(outcome)
        table.add_row(name, f"{ratio} ({spread})" if ratio else "", bar, mark, first, second, style=style)
    return table


def to_markdown(outcomes: Sequence[Outcome], machine: Machine, command: Sequence[str]) -> str:
    git = git_state()
    rounds = {outcome.row.section: outcome.rounds for outcome in outcomes}
    commit = git["commit"] or "none (no commit yet)"
    facts = {
        "machine": f"{machine.cpu}, {machine.cores} cores, {platform.platform()}",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, TorchJD {_version('torchjd')}",
        "threads": f"{machine.threads}, load average at start {machine.load}",
        "date": machine.date,
        "commit": f"{commit}{' with uncommitted changes' if git['dirty'] else ''}",
        "command": f"`python scripts/benchmark.py {shlex.join(command)}`".replace(" `", "`"),
        "rounds": ", ".join(f"{name} {count}" for name, count in rounds.items()),
    }
    lines = ["# Performance", "", *(f"- {key}: {value}" for key, value in facts.items()), "", TEXT]
    lines += [_line(COLUMNS), _line([":--", *["--:"] * (len(COLUMNS) - 1)])]
    lines += [_line(_cells(outcome)) for outcome in outcomes]
    return "\n".join([*lines, "", f"{verdict(outcomes)}.", ""])


def _cells(outcome: Outcome) -> list[str]:
    row = outcome.row
    mark = {None: "", True: "met", False: "MISSED"}[outcome.met]
    if outcome.ratio is None or outcome.below is None:
        limit = "" if row.bar is None else f"<= {row.bar * 1e3:.0f} ms"
        return [row.name, "", "", limit, mark, *_times(outcome.above, 1e3, "ms", 3), "", ""]
    bar = "" if row.bar is None else f"{'>=' if row.per_second else '<='} {row.bar:.2f}"
    cells = [row.name, f"{outcome.ratio.median:.3f}", _range(outcome.ratio, 1, 3), bar, mark]
    for spread in (outcome.above, outcome.below):
        rate = (1e-3, "k/s", 0) if spread.median > 1e4 else (1.0, "/s", 0)
        cells += _times(spread, *(rate if row.per_second else (1e3, "ms", 2)))
    return cells


def _times(spread: Spread, scale: float, unit: str, digits: int) -> list[str]:
    return [f"{spread.median * scale:.{digits}f} {unit}", _range(spread, scale, digits)]


def _range(spread: Spread, scale: float, digits: int) -> str:
    return f"{spread.low * scale:.{digits}f}-{spread.high * scale:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed (its rows are left out)"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
