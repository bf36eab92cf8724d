"""Which tasks to train together: `python scripts/group_tasks.py run=RUN_DIR budget=N [overlap=true] [alone=SCORE]`.

RUN_DIR is a run with strategy=tag_affinity. See mtl.grouping.select_groups for the arguments.
"""

import sys
from pathlib import Path

from mtl.errors import ConfigError, UserError
from mtl.grouping import select_groups
from mtl.results.affinity import read_affinity
from mtl.results.runs import read_run

KEYS = ("run", "budget", "overlap", "alone")


def main(arguments: list[str]) -> None:
    values = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if set(values) - set(KEYS) or len(values) != len(arguments) or not {"run", "budget"} <= set(values):
        raise ConfigError(f"Arguments should be run=RUN_DIR budget=N and possibly overlap=, alone=. Found {arguments}.")
    if values.get("overlap", "true") not in ("true", "false"):
        raise ConfigError(f"`overlap` should be true or false. Found `{values['overlap']}`.")
    try:
        budget, alone = int(values["budget"]), float(values["alone"]) if "alone" in values else None
    except ValueError as error:
        raise ConfigError(f"`budget` should be an integer and `alone` a number: {error}.") from error
    run = read_run(Path(values["run"]))
    tasks = tuple(run.tasks)
    affinity = read_affinity(run)
    for source, row in zip(tasks, affinity.tolist(), strict=True):
        print(f"{source} -> " + ", ".join(f"{task} {value:+.4g}" for task, value in zip(tasks, row, strict=True)))
    found = select_groups(affinity, budget, overlap=values.get("overlap", "true") == "true", alone=alone)
    for number, group in enumerate(found.groups):
        served = [tasks[task] for task, network in enumerate(found.serves) if network == number]
        print(f"network {number}: train {', '.join(tasks[task] for task in group)}; use it for {', '.join(served)}")
    print(f"score {found.score:.6g}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
