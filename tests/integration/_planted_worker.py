"""A worker of a sweep in which some jobs crash and some diverge, in ways that a seed and a strategy name.

Completions go to a file beside the sweep, so that a test sees whether a job came to its end twice.
"""

import os
import signal
import sys
from pathlib import Path

from mtl.config import worker
from mtl.training import runner
from mtl.training.trainer import Trainer

CRASHES = {("uniform", 0): "raise", ("mgda", 1): "raise", ("uniform", 2): "exit", ("pcgrad", 3): "exit"}
CRASHES |= {("mgda", 4): "kill", ("pcgrad", 5): "kill"}
DIVERGING = [("uniform", 6), ("mgda", 7), ("pcgrad", 8)]
STEPS = 3
"""Steps before a crash: after the first checkpoint."""


def plant(log: Path) -> None:
    fit, plain_fit, save = Trainer.fit, runner._fit, Trainer.save

    def planted_fit(self):
        if self.planted in DIVERGING:
            for group in self.strategy.optimizers[0].param_groups:
                group["lr"] = 1e30
        fit(self)

    def planted_save(self):
        save(self)
        if self.planted in CRASHES and self.step >= STEPS:
            crash(CRASHES[self.planted])

    def recording_fit(spec, start, directory, trainer):
        trainer.planted = (spec.names["strategy"], spec.seed) if not spec.tracking.tags else None
        result = plain_fit(spec, start, directory, trainer)
        with log.open("a") as file:
            file.write(f"{directory.path.name}\n")
        return result

    Trainer.planted = None
    Trainer.fit, Trainer.save, runner._fit = planted_fit, planted_save, recording_fit


def crash(kind: str) -> None:
    if kind == "raise":
        raise RuntimeError("planted")
    if kind == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    plant(Path(os.environ["PLANTED_LOG"]))
    sys.exit(worker.main())
