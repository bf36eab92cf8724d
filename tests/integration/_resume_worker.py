"""A fresh process that continues saved strategies: `python -m tests.integration._resume_worker DIRECTORY`."""

import sys
from pathlib import Path

import pytest
import torch

from mtl.training.checkpoint import load_checkpoint, save_checkpoint
from tests.problems import adam, begin, build_strategy, fast_warmup, ghosts_everywhere, make_batches, make_objective


def start(name: str):
    objective = make_objective(batch_norm=True, dtype=torch.float32)
    strategy = build_strategy(name, *fast_warmup(name))
    return objective, begin(strategy, objective, adam)


def steps(objective, strategy, first: int, last: int):
    for index, batch in enumerate(make_batches(count=9, dtype=torch.float32)):
        if first <= index < last:
            strategy.step(batch)
            if index % 3 == 2:
                strategy.end_epoch()
    return {"model": objective.model.state_dict(), "strategy": strategy.state_dict()}


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    ghosts_everywhere(pytest.MonkeyPatch())
    for path in sorted(directory.glob("*.half")):
        state = load_checkpoint(path)
        objective, strategy = start(path.stem)
        objective.model.load_state_dict(state["model"])
        strategy.load_state_dict(state["strategy"])
        save_checkpoint(path.with_suffix(".resumed"), steps(objective, strategy, 5, 9))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
