"""Runs as a table's plan names them and as runs record what they did, without training anything."""

import json
import random

import numpy as np

from tests.unit.results.test_runs import write_run

TASKS = ("segmentation", "depth", "normals")
LAYERS = tuple(f"backbone.encoder.{i}.conv{j}" for i in range(4) for j in (1, 2))


def runs_of(plan, root, tasks, value, seconds=lambda job: 60.0, experiment=None, keep=lambda job: True):
    """One completed run a job.

    Args:
        plan: Of a table.
        root: Where to write.
        tasks: Task -> names of its metrics, the first one primary.
        value: (job, task, metric, generator) -> number.
        seconds: Job -> training seconds.
        experiment: Name that the runs say.
        keep: Which jobs are run.
    """
    made = []
    for number, job in enumerate(filter(keep, plan.jobs)):
        generator = random.Random(number)
        own = [job.tasks.strip("[]")] if job.tasks else list(tasks)
        values = {task: {metric: value(job, task, metric, generator) for metric in tasks[task]} for task in own}
        made.append(
            write_run(
                root,
                f"run{number}",
                job.overrides["strategy"],
                job.seed,
                values,
                config_hash=job.config_hash,
                setting_hash=job.setting_hash,
                experiment=experiment,
                options={"strategy": job.config["strategy"]},
                cost={"train_seconds": seconds(job), "optimizer_steps": 100, "train_cpu_seconds": 2 * seconds(job)},
            )
        )
    return made


def matrix(step, decay, generator):
    """Affinities that drift towards fixed values as fast as the decay rate."""
    target = np.array([[0.3, 0.1, -0.05], [0.02, 0.25, 0.15], [-0.1, 0.08, 0.2]])
    noise = np.array([[generator.gauss(0, 0.02) for _ in range(3)] for _ in range(3)])
    return (target * (1 - np.exp(-step * decay)) + noise).round(5).tolist()


def events_of(strategy, seed, decay=0.01, steps=range(20, 1001, 20)):
    """Step and diagnostics events, by the record's contract."""
    generator = random.Random(f"{strategy}{seed}{decay}")
    lines, path = [], 0.0
    for step in steps:
        path += 0.5 + generator.random()
        raw = [{task: generator.uniform(0.5, 3 - i) for i, task in enumerate(TASKS)} for _ in LAYERS]
        normed = [{task: value / sum(one.values()) for task, value in one.items()} for one in raw]
        shares = dict(zip(LAYERS, normed, strict=True))
        groups = [list(TASKS)] if generator.random() < 0.3 else [["segmentation"], ["depth", "normals"]]
        lines.append({"event": "step", "step": step, "epoch": 1, "losses": {}, "groups": groups})
        lines.append(
            {
                "event": "diagnostics",
                "step": step,
                "epoch": 1,
                "path_length": path,
                "displacement": path**0.6,
                "update_share": shares,
                "affinity": matrix(step, decay, generator),
            }
        )
    return lines


def recorded(root, name, strategy, seed=0, keep=None, decay=0.001, **changes):
    """A run that recorded diagnostics; `keep`: keys that its diagnostics have, None for all."""
    options = {"strategy": {"grouping": {"decay_rate": decay}}}
    given = {"options": options, "config_hash": f"{strategy}-{decay}", **changes}
    run = write_run(root, name, strategy, seed, dict.fromkeys(TASKS, 1.0), **given)
    lines = events_of(strategy, seed, 10 * decay)
    if keep is not None:
        lines = [{k: v for k, v in line.items() if k in ("event", "step", "epoch", "groups", *keep)} for line in lines]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
