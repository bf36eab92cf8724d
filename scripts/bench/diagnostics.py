"""What looking at a training step costs beside the step itself."""

import torch

from bench.steps import Problem
from bench.timing import Contender
from mtl.diagnostics import Recorder
from mtl.diagnostics.recorder import AUTO
from mtl.seeding import derive_seed

SHARE = 0.02
"""Most of a plain step's time that diagnostics may take on average."""
LOOK_BAR = SHARE * AUTO * 3
"""Of one look at two tasks, over a plain step: `every: auto` looks at one step of 40 (m + 1)."""
PATH_BAR = SHARE


def look() -> Contender:
    """All that a measured step costs beside the step: task gradients before it, comparisons after it."""
    problem, recorder = _recorder(path=False)
    report = problem.spec.strategy.step(problem.batch)

    def run() -> int:
        recorder.before(problem.batch, 1)
        recorder.after(report)
        return 1

    return Contender(run)


def path() -> Contender:
    """What the path adds to every optimizer step."""
    _, recorder = _recorder(path=True)
    assert recorder.path is not None

    def run() -> int:
        for _ in range(CALLS):
            recorder.path.advance()
        return CALLS

    return Contender(run)


CALLS = 100
"""Of a short function, for a time that a clock can tell."""


def _recorder(path: bool) -> tuple[Problem, Recorder]:
    problem = Problem("uniform")
    strategy = problem.spec.strategy
    generator = torch.Generator().manual_seed(derive_seed(problem.spec.seed, "strategy"))
    strategy.setup(problem.objective, problem.spec.make_optimizer, generator)
    return problem, Recorder(problem.objective, strategy, 1, path)
