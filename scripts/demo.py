"""Every family of strategy on one data set: train, compare, draw. `make demo` runs this.

    python scripts/demo.py                                     real digits, two seeds, about three minutes
    python scripts/demo.py out=DIR seeds=0,1,2 dataset=multimnist trainer.max_epochs=20

`out`, `seeds`, `strategies` and `tasks` belong to this script; every other key=value goes to configs/train.yaml. Called
again with the same `out`, it keeps finished runs and continues interrupted ones.
"""

import sys
import time
from pathlib import Path

from compare import write_comparison

from mtl.config import comparison, guarded, run_grid
from mtl.config.report import report_main

DEFAULTS = {
    "out": "outputs/demo",
    "seeds": "0,1",
    "strategies": "uniform,pcgrad,mgda_ub,igd_per_task,mao,selective_groups",
    "tasks": "left,right",
}


SHORT = ["trainer.max_epochs=15", "trainer.eval_every_epochs=3"]  # overrides on the command line come later and win


def main() -> int:
    started = time.monotonic()
    options = dict(DEFAULTS)
    overrides = []
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key in options:
            options[key] = value
        else:
            overrides.append(argument)
    out = Path(options["out"])
    jobs = comparison(
        options["tasks"].split(","),
        options["strategies"].split(","),
        [int(seed) for seed in options["seeds"].split(",")],
        ["experiment_name=demo", *SHORT, *overrides],
    )
    code = run_grid(jobs, out)
    if code:
        return code
    write_comparison(out, out)
    code = report_main([f"runs={out}", f"out={out / 'report.html'}"])
    sys.stdout.write(f"{len(jobs)} runs in {time.monotonic() - started:.0f} s\n")
    return code


if __name__ == "__main__":
    sys.exit(guarded(main))
