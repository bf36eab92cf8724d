"""Compiled backbones and bf16 on the CPU: does it pay?"""

import time
from pathlib import Path

from bench.problem import LENET, SEGNET, UNET, Problem, prepare
from bench.report import Machine, line, reading
from bench.section import apart
from bench.timing import Contender, Spread, measure, set_clock, timed

OUT = "docs/results/compiled.md"
SETTINGS = {"lenet": LENET, "unet": UNET, "segnet": SEGNET}
STRATEGIES = ("uniform", "mgda", "igd_per_task")
ROUNDS, LIMIT = 9, 60.0


def step(key: str, text: str, way: str) -> Contender:
    """A whole step: `plain`, `compiled` or `bf16`."""
    problem = Problem(SETTINGS[key], text)
    ours = problem.strategy()
    if way == "compiled":
        problem.objective.model.compile_backbone()
    if way == "bf16":
        problem.objective.model.use_precision("bfloat16")

    def run() -> int:
        ours.step(problem.batch)
        return 1

    return timed(run, calls=4 if key == "lenet" else 1)


def study(key: str, threads: int, clock: str) -> tuple[float, dict[str, Spread]]:
    """Seconds of compilation, and for each strategy and way the ratio to the plain step."""
    set_clock(clock)
    prepare(threads)
    contenders = {f"{text} {way}": step(key, text, way) for text in STRATEGIES for way in ("plain", "bf16", "compiled")}
    started = time.perf_counter()
    contenders[f"{STRATEGIES[0]} compiled"].turn()
    seconds = time.perf_counter() - started
    measured = measure(contenders, ROUNDS, 2, LIMIT, key)
    ratios = {}
    for name, values in measured.items():
        text, _, way = name.partition(" ")
        plain = measured[f"{text} plain"]
        if way != "plain":
            ratios[name] = Spread.of([a / b for a, b in zip(values, plain, strict=True) if a is not None and b])
    return seconds, ratios


def main(out: Path, machine: Machine, clock: str) -> None:
    """Measure and write."""
    command = "python scripts/benchmark.py only=compiled"
    lines = ["# torch.compile and bf16 on a CPU", "", *machine.facts(command), f"- clock: {clock}", "", HEAD, ""]
    lines += [line(["network", "strategy", "compiled / plain", "IQR", "bf16 / plain", "IQR", "compilation"])]
    lines += [line([":--", ":--", *["--:"] * 5])]
    for key, setting in SETTINGS.items():
        seconds, ratios = apart(study, key, machine.threads, clock)
        for text in STRATEGIES:
            cells = []
            for way in ("compiled", "bf16"):
                found = ratios[f"{text} {way}"]
                cells += [f"{found.median:.3f}", f"{found.low:.3f}-{found.high:.3f}"]
            lines.append(line([setting.name, f"`{text}`", *cells, f"{seconds:.0f} s"]))
    lines += ["", reading("compiled", "conclusion"), ""]
    out.write_text("\n".join(lines), encoding="utf-8")


HEAD = """\
The whole `Strategy.step` with a backbone compiled by `torch.compile` (`trainer.compile=true`), and with a backbone in
bfloat16 (`trainer.precision=bfloat16`), against the plain step; ratios within rounds, below 1 is faster. Compilation:
the first step of the first strategy."""
