"""One loop for every strategy, and what surrounds it: evaluation, checkpoints, the run directory."""

from mtl.training.evaluator import predict
from mtl.training.runner import LoadedRun, evaluate_run, load_run, run
from mtl.training.settings import TrainerSettings
from mtl.training.spec import RunSpec

__all__ = ["LoadedRun", "RunSpec", "TrainerSettings", "evaluate_run", "load_run", "predict", "run"]
