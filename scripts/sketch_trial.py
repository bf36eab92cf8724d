"""How good is `gramian: sketch`? Forty noisy binary tasks, three methods, exact, averaged and estimated Gramians.

    python scripts/sketch_trial.py mnist=DIR fashion=DIR out=FILE.jsonl [seeds=5] [report=FILE.md]

Appends one JSON line a finished run to `out`, leaves out what is there already, and prints the table (to `report` too).
The learning rate of a method is the best of two on validation images, by a run of its exact form on a seed of its own;
the estimates of a method use the same. One thread.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trial.problem import load
from trial.training import METHODS, WAYS, Job, train

from mtl.config import guarded
from mtl.errors import ConfigError

RATES = (0.003, 0.01)
TUNING_SEED = 1000
DEFAULTS = {"mnist": "", "fashion": "", "out": "", "seeds": "5", "report": ""}


def parse(arguments: list[str]) -> dict[str, str]:
    values = dict(DEFAULTS)
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in DEFAULTS or not separator or not value:
            raise ConfigError(f"Arguments should be KEY=VALUE with a KEY of {', '.join(DEFAULTS)}. Found `{argument}`.")
        values[key] = value
    for key in ("mnist", "fashion", "out"):
        if not values[key]:
            raise ConfigError(f"`{key}=` is missing. {__doc__}")
    if not values["seeds"].isdecimal():
        raise ConfigError(f"`seeds` should be a number. Found `{values['seeds']}`.")
    return values


def done(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def find(runs: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [run for run in runs if all(run[key] == value for key, value in wanted.items())]


def tuning(*_: object) -> Iterator[Job]:
    for method in ("uniform", *METHODS):
        for lr in RATES:
            yield Job(method, "exact", TUNING_SEED, lr)


def chosen(runs: list[dict[str, Any]], method: str) -> float:
    best = max(find(runs, method=method, seed=TUNING_SEED), key=lambda run: run["val"])
    return float(best["lr"])


def jobs(seeds: int, runs: list[dict[str, Any]]) -> Iterator[Job]:
    """By seed, the cheap ways first; `exact_averaged` after all others."""
    *ways, averaged = WAYS
    for seed in range(seeds):
        yield Job("uniform", "exact", seed, chosen(runs, "uniform"))
        for way in reversed(ways):
            for method in METHODS:
                yield Job(method, way, seed, chosen(runs, method))
    for seed in range(seeds):
        for method in METHODS:
            yield Job(method, averaged, seed, chosen(runs, method))


def table(runs: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds; CPU time of all steps, as a ratio to `uniform` of the same seeds."""
    measured = [run for run in runs if run["seed"] != TUNING_SEED]
    plain = find(measured, method="uniform")
    base = statistics.median(run["cpu_seconds"] for run in plain)
    lines = ["| method | way | learning rate | cosine with exact | test accuracy % | seeds | CPU time / uniform |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|")
    if plain:
        cosines = [_mean([run["cosines"][name] for run in plain]) for name in METHODS]
        text = " / ".join(f"{value:.3f}" for value in cosines) + " (" + " / ".join(METHODS) + ")"
        lines.append(f"| uniform | | {plain[0]['lr']} | {text} | {_spread(plain)} | {len(plain)} | 1 |")
    for method in METHODS:
        for way in WAYS:
            found = find(measured, method=method, way=way)
            if found:
                cosine = "1" if way == "exact" else f"{_mean([run['cosines']['own'] for run in found]):.3f}"
                ratio = statistics.median(run["cpu_seconds"] for run in found) / base
                cells = (method, way, found[0]["lr"], cosine, _spread(found), len(found), f"{ratio:.2f}")
                lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _mean(lists: list[list[float]]) -> float:
    return statistics.mean(value for values in lists for value in values)


def _spread(runs: list[dict[str, Any]]) -> str:
    values = [run["test"] for run in runs]
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def main() -> int:
    values = parse(sys.argv[1:])
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    path, seeds = Path(values["out"]), int(values["seeds"])
    data = load(Path(values["mnist"]), Path(values["fashion"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    for stage in (tuning, partial(jobs, seeds)):
        for job in stage(done(path)):
            if find(done(path), method=job.method, way=job.way, seed=job.seed, lr=job.lr):
                continue
            result = train(job, data)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(f"{job}: test {result['test']:.2f}, {result['cpu_seconds']:.1f} s", flush=True)
    text = table(done(path))
    print(text)
    if values["report"]:
        Path(values["report"]).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
