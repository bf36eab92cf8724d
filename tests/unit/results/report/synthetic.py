"""Run directories with made-up numbers, with everything that a record can hold."""

import json
import math
import random

from tests.unit.results.test_runs import write_run

NAMES = (
    *(
        "uniform",
        "uncertainty",
        "dwa",
        "rlw",
        "gls",
        "famo",
        "mgda",
        "pcgrad",
        "cagrad",
        "nash_mtl",
        "fairgrad",
        "imtl",
    ),
    *("aligned_mtl", "upgrad", "gradvac", "graddrop", "selective_groups", "igd", "mao", "moco"),
)
METRICS = {
    "segmentation": {"miou": (40.0, True), "pix_acc": (65.0, True)},
    "depth": {"abs_err": (0.55, False), "rel_err": (0.22, False)},
    "normals": {"mean": (25.0, False), "within_11": (32.0, True)},
    "left": {"accuracy": (90.0, True)},
    "right": {"accuracy": (85.0, True)},
}
EVALUATIONS, STEPS_LOGGED = 30, 60


def write_runs(root, *, methods=4, seeds=3, tasks=("left", "right"), baselines=True, diagnostics=True, lost=()):
    """Write runs; returns them.

    Args:
        methods: How many; names repeat with a number where there are more than `NAMES`.
        seeds: Of each method.
        baselines: Whether there are single-task runs.
        diagnostics: Whether there are `diagnostics` events.
        lost: (method, status, message) of runs that did not complete, one seed each.
    """
    labels = [NAMES[i] if i < len(NAMES) else f"{NAMES[i % len(NAMES)]}_{i // len(NAMES) + 1}" for i in range(methods)]
    made = []
    for seed in range(seeds):
        if baselines:
            made += [_write(root, "uniform", seed, (task,), 0.0, diagnostics) for task in tasks]
        made += [_write(root, name, seed, tasks, 0.4 * i - 2.0, diagnostics) for i, name in enumerate(labels)]
    for name, status, message in lost:
        made.append(
            write_run(
                root,
                f"{name}/lost",
                name,
                seeds,
                _final(tasks, 0.0, random.Random(0)),
                status,
                _higher(tasks),
                message=message,
            )
        )
    return made


def _final(tasks, gain, dice):
    """Task -> metric -> value, `gain` percent better than the reference, with seed noise of one percent."""
    return {
        task: {
            metric: value * (1 + (1 if higher else -1) * (gain + dice.gauss(0, 1)) / 100)
            for metric, (value, higher) in METRICS[task].items()
        }
        for task in tasks
    }


def _higher(tasks):
    return {metric: higher for task in tasks for metric, (_, higher) in METRICS[task].items()}


def _write(root, name, seed, tasks, gain, diagnostics):
    dice = random.Random(f"{name}-{seed}-{tasks}")
    final = _final(tasks, gain, dice)
    folder = f"{name}/seed={seed}" if len(tasks) > 1 else f"single_{tasks[0]}/seed={seed}"
    cost = {
        "train_cpu_seconds": 55.0 + gain,
        "step_seconds": 0.01 * (1 + abs(gain)) * len(tasks),
        "train_seconds": 60.0 + gain,
    }
    cost |= {"backbone_backwards": 100 * len(tasks), "optimizer_steps": 100}
    run = write_run(
        root,
        folder,
        name,
        seed,
        final,
        higher=_higher(tasks),
        device="cpu",
        cost=cost,
        epochs=EVALUATIONS,
        versions={"torch": "2"},
    )
    events = [{"event": "start", "step": 0}]
    for epoch in range(1, EVALUATIONS + 1):
        rest = math.exp(-epoch / 5)
        metrics = {
            t: {m: v * (1 - (0.6 if METRICS[t][m][1] else -0.6) * rest) for m, v in ms.items()}
            for t, ms in final.items()
        }
        events.append(
            {"event": "evaluation", "step": 10 * epoch, "epoch": epoch, "metrics": {"val": metrics, "test": metrics}}
        )
    if len(tasks) > 1:
        events += [_step(5 * i, name, tasks, dice) for i in range(1, STEPS_LOGGED + 1)]
        events += [_diagnostics(10 * i, tasks, dice) for i in range(1, 31)] if diagnostics else []
    events.append({"event": "end"})
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


def _step(step, name, tasks, dice):
    weights = {task: 1.0 if name == "uniform" else 0.2 + dice.random() for task in tasks}
    event = {"event": "step", "step": step, "losses": dict.fromkeys(tasks, 1.0), "weights": weights}
    event["gradient_norms"] = {task: 0.5 + dice.random() for task in tasks}
    if name == "selective_groups":
        split = dice.randrange(1, len(tasks))
        event["groups"] = [list(tasks[:split]), list(tasks[split:])]
    return event


def _diagnostics(step, tasks, dice):
    size = len(tasks)
    cosines = [[1.0 if i == j else math.sin(i + 2 * j + step / 100) for j in range(size)] for i in range(size)]
    return {
        "event": "diagnostics",
        "step": step,
        "gradient_norms": {task: 0.5 + dice.random() for task in tasks},
        "cosines": cosines,
        "magnitude_similarity": [[0.9] * size for _ in range(size)],
        "conflict_rate": dice.random(),
        "condition_number": 10 ** (1 + dice.random()),
        "angle_to_uniform": 30 * dice.random(),
        "update_norm": 1e-3 * (1 + dice.random()),
        "path_length": 2.0 + step,
        "displacement": 1.0 + step / 3,
        "update_share": {layer: dict.fromkeys(tasks, 1 / size) for layer in ("conv1", "conv2")},
        "affinity": [[None if i == j else 0.01 * (i - j) for j in range(size)] for i in range(size)],
    }
