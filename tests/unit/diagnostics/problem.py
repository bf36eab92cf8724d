"""A network with BatchNorm and dropout, and runs on it with and without a recorder."""

import torch
from torch import nn

from mtl.diagnostics import Recorder
from mtl.models.model import MultiTaskModel
from tests.problems import Trunk, adam, begin, build_strategy, fast_warmup, make_batches, make_objective

TASKS = ("a", "b", "c")


class DropoutTrunk(Trunk):
    """`Trunk` with dropout before its last layer."""

    def forward(self, inputs):
        hidden = torch.tanh(self.norm(self.first(inputs)))
        return torch.tanh(self.last(nn.functional.dropout(hidden, 0.3, self.training)))


def dropout_objective(tasks=TASKS):
    torch.manual_seed(1)
    model = MultiTaskModel(DropoutTrunk(), {task: nn.Linear(6, 3) for task in tasks})
    return make_objective(tasks, dtype=torch.float32, model=model.train())


def record_run(name, every, path=False, count=6, overrides=(), make_optimizer=adam, objective=None, **more):
    """Train a few steps. Returns the objective, the strategy, the reports and the recorded fields by step."""
    objective = objective or dropout_objective()
    dtype = next(objective.model.parameters()).dtype
    strategy = begin(build_strategy(name, *fast_warmup(name), *overrides), objective, make_optimizer)
    recorder = Recorder(objective, strategy, every, path, **more)
    torch.manual_seed(5)
    reports, found = [], {}
    for step, batch in enumerate(make_batches(objective.tasks, count=count, dtype=dtype), start=1):
        looks = recorder.looks(step)
        if looks:
            recorder.before(batch, step)
        reports.append(strategy.step(batch))
        recorder.stepped()
        fields = recorder.after(reports[-1]) if looks else None
        if fields is not None:
            found[step] = fields
        if step % 3 == 0:
            strategy.end_epoch()
    return objective, strategy, reports, found
