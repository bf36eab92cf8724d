"""Where the time of a step goes: one profile a strategy family."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from bench.problem import LENET, RESNET, Problem, Setting, prepare
from bench.report import Machine, line, reading
from bench.section import apart

OUT = "docs/results/profiles.md"
STEPS: Mapping[str, tuple[Setting, str, int]] = {
    "uniform (loss weighting)": (RESNET, "uniform", 10),
    "mgda, exact (Gramian)": (RESNET, "mgda", 2),
    "mgda, ghost (Gramian without rows)": (RESNET, "mgda gramian=ghost", 2),
    "mgda_ub (features)": (RESNET, "mgda_ub", 10),
    "moco (Jacobian)": (RESNET, "moco", 2),
    "igd_per_task (sequential)": (LENET, "igd_per_task", 20),
    "selective_groups (sequential, groups from losses)": (LENET, "selective_groups", 20),
    "mao (simultaneous)": (RESNET, "mao", 2),
}
"""Heading -> network, strategy, steps that are profiled."""
TOP = 8


def shares(setting: Setting, text: str, count: int, threads: int) -> tuple[float, dict[str, float]]:
    """Milliseconds a step, and the share of each operator in the time of all (its own, without those it calls)."""
    prepare(threads)
    problem = Problem(setting, text)
    ours = problem.strategy()
    for _ in range(2):
        ours.step(problem.batch)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(count):
            ours.step(problem.batch)
    own: Counter[str] = Counter()
    for event in found.key_averages():
        own[event.key] += event.self_cpu_time_total
    total = sum(own.values())
    return total / count / 1e3, {name: value / total for name, value in own.most_common(TOP)}


def main(out: Path, machine: Machine, _: str) -> None:
    """Profile and write."""
    lines = ["# Profiles", "", *machine.facts("python scripts/benchmark.py only=profiles"), "", HEAD, ""]
    for label, (setting, text, count) in STEPS.items():
        milliseconds, found = apart(shares, setting, text, count, machine.threads)
        lines += [f"## {label}", "", f"{setting.name}, `strategy={text.split()[0]}`, {milliseconds:.0f} ms a step.", ""]
        lines += [line(["operator", "share"]), line([":--", "--:"])]
        lines += [line([f"`{name}`", f"{share * 100:.1f} %"]) for name, share in found.items()]
        lines += ["", reading("profiles", label), ""]
    out.write_text("\n".join(lines), encoding="utf-8")


HEAD = """\
`torch.profiler` over whole steps: an operator's own time, without the operators that it calls, as a share of all. Two
threads where the machine has them. Times of a profiled step are longer than those of the benchmark; the shares are what
counts."""
