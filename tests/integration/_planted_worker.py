"""A worker of a sweep in which some jobs crash and some diverge: those that strategy, seed and mirror name.

Completions go to a file beside the sweep, so that a test sees whether a job came to its end twice.
"""

import os
import signal
import sys
from pathlib import Path

from mtl.config import worker
from mtl.training import runner
from mtl.training.trainer import Trainer

CRASHES = {
    ("uniform", 0, False): "raise",
    ("mgda", 1, True): "raise",
    ("uniform", 2, False): "exit",
    ("pcgrad", 3, True): "exit",
    ("mgda", 4, False): "kill",
    ("pcgrad", 5, True): "kill",
}
DIVERGING = [("uniform", 6, True), ("mgda", 7, False), ("pcgrad", 8, True)]
STEPS = 3
"""Steps before a crash: after the first checkpoint."""


def plant(log: Path) -> None:
    fit, save, plain_fit = Trainer.fit, Trainer.save, runner._fit

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
        trainer.planted = (spec.names["strategy"], spec.seed, spec.tracking.wandb)
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
