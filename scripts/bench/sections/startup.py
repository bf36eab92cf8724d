"""From the command line to the first step."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, clock_name

NAME = "startup"
BAR = 2.0
ROOT = Path(__file__).parents[3]
FIRST_STEP = """
import os, runpy, sys
sys.path.insert(0, {scripts!r})
import torch.optim
step = torch.optim.Adam.step
def first(self, *arguments, **keywords):
    found = step(self, *arguments, **keywords)
    if self.param_groups[0]["params"][0].numel() > 1:  # not the trial step while the configuration is checked
        sys.stdout.flush()
        os._exit(0)
    return found
torch.optim.Adam.step = first
sys.argv = ["train.py", *{overrides!r}]
runpy.run_path({script!r}, run_name="__main__")
raise SystemExit("no step was made")
"""
"""Runs scripts/train.py and ends the process after the first optimizer step of the network."""


def _now() -> float:
    """By the chosen clock: of the wall, or of finished child processes."""
    times = os.times()
    return time.perf_counter() if clock_name() == "wall" else times.children_user + times.children_system


def command(code: str) -> Contender:
    """Seconds of a new Python process."""

    def turn() -> float:
        started = _now()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return _now() - started

    return Contender(turn)


def first_step(overrides: Sequence[str]) -> Contender:
    """`scripts/train.py` on multidigits, to the end of its first step."""
    place = tempfile.TemporaryDirectory(prefix="mtl-bench-")
    scripts = ROOT / "scripts"
    arguments = [*overrides, f"paths.output_dir={place.name}"]
    found = command(FIRST_STEP.format(scripts=str(scripts), script=str(scripts / "train.py"), overrides=arguments))

    def turn() -> float:
        assert place.name
        return found.turn()

    return Contender(turn)


def build(name: str) -> Contender:
    """`train` or `torch`."""
    return first_step(["dataset=multidigits"]) if name == "train" else command("import torch")


SECTION = Section(
    "Start-up",
    "New processes: `scripts/train.py` with its defaults, until its first step is made, against `import torch`. "
    "The bar is for the difference.",
    [Row(NAME, "train.py to its first step - import torch", "train", "torch", BAR, "difference")],
    build,
    limit=18,
    rounds=8,
    warmup=1,
)
