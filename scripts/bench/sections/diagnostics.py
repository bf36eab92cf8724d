"""What looking at a training step costs beside the step itself."""

from bench import steps
from bench.problem import LENET, Problem
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender, timed
from mtl.diagnostics import Recorder
from mtl.diagnostics.recorder import AUTO

NAME = "diagnostics"
SHARE = 0.02
"""Most of a plain step's time that diagnostics may take on average."""
LOOK_BAR = SHARE * AUTO * 3
"""Of one look at two tasks, over a plain step: `every: auto` looks at one step of 40 (m + 1)."""
CALLS = 100
"""Of a short function, for a time that a clock can tell."""


def look() -> Contender:
    """All that a measured step costs beside the step: task gradients before it, comparisons after it."""
    problem, recorder = _recorder(path=False)
    report = problem.spec.strategy.step(problem.batch)

    def run() -> int:
        recorder.before(problem.batch, 1)
        recorder.after(report)
        return 1

    return timed(run)


def path() -> Contender:
    """What the path adds to every optimizer step."""
    _, recorder = _recorder(path=True)
    path = recorder.path
    assert path is not None

    def run() -> int:
        for _ in range(CALLS):
            path.advance()
        return CALLS

    return timed(run)


def _recorder(*, path: bool) -> tuple[Problem, Recorder]:
    problem = Problem(LENET)
    return problem, Recorder(problem.objective, problem.strategy(), 1, path)


def build(name: str) -> Contender:
    """`look`, `path`, or a step."""
    return {"look": look, "path": path}[name]() if name in ("look", "path") else steps.build(LENET, name)


SECTION = Section(
    "Diagnostics",
    "What `mtl.diagnostics` does around a step that it looks at (`tracking.diagnostics.every`), and in every optimizer "
    "step if the path is recorded, on LeNet with two tasks. The bars are 2 % of training: `every: auto` looks at one "
    "step of 120.",
    [
        Row(NAME, "diagnostics of one step of two tasks / a plain step", "look", "ours:uniform", LOOK_BAR),
        Row(NAME, "path of one step / a plain step", "path", "ours:uniform", SHARE),
    ],
    build,
    limit=20,
)
