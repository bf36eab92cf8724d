"""One loop for every strategy, and what surrounds it: evaluation, checkpoints, the run directory."""

from mtl.training.runner import evaluate_run, run
from mtl.training.settings import TrainerSettings
from mtl.training.spec import RunSpec

__all__ = ["RunSpec", "TrainerSettings", "evaluate_run", "run"]
