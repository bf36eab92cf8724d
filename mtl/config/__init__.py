"""The only room that knows Hydra and OmegaConf."""

from mtl.config.entry import compose_config, evaluate_main, guarded, resume_run, run_overrides, train_main
from mtl.config.grid import Job, comparison, run_grid
from mtl.config.predictions import predictions_main
from mtl.config.prepare import prepare_main

__all__ = [
    "Job",
    "comparison",
    "compose_config",
    "evaluate_main",
    "guarded",
    "predictions_main",
    "prepare_main",
    "resume_run",
    "run_grid",
    "run_overrides",
    "train_main",
]
