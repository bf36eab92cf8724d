"""Training steps on one network and one batch: the bare passes, a plain step, and every strategy in configs/."""

import ctypes
import platform
from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.timing import Contender
from mtl.config import compose_config
from mtl.config.build import build_spec, config_directory
from mtl.datasets.base import Batch
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.strategies import GradientStrategy, SequentialStrategy, SimultaneousStrategy
from mtl.training.runner import prepare_process
from mtl.training.spec import RunSpec

BATCH_SIZE = 256
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's <malloc.h>."""
SETTING = ("dataset=multimnist", "backbone=lenet", "heads=linear", "optimizer=adam", "trainer.device=cpu")


def compose(strategy: str = "uniform") -> RunSpec:
    """The parts of a run, by the same code as a training run."""
    return build_spec(*compose_config([*SETTING, f"strategy={strategy}"]))


def prepare(threads: int) -> None:
    """The process as a training run has it, with so many threads, and memory that stays with the process.

    glibc gives large buffers back to the system after every step and faults them in again page by page: a fifth of a
    step here, and by chance more for one contender than for another.
    """
    spec = compose()
    prepare_process(spec.trainer, spec.seed)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class Problem:
    """A network of its own with the same initial weights as every other, the same random batch, fused Adam.

    Attributes:
        spec: Composed from configs/ by the same code as a training run.
        objective: Model and tasks.
        batch: Random images and classes of MultiMNIST's shapes.
    """

    def __init__(self, strategy: str = "uniform") -> None:
        self.spec = compose(strategy)
        data = self.spec.data
        model = build_model(self.spec.backbone, self.spec.head, data.tasks, data.input_shape, self.spec.seed)
        self.objective = MultiTaskObjective(model, data.tasks, data.input_shape)
        generator = torch.Generator().manual_seed(0)
        self.batch = Batch(
            torch.randn((BATCH_SIZE, *data.input_shape), generator=generator),
            {task: torch.randint(10, (BATCH_SIZE,), generator=generator) for task in self.objective.tasks},
        )
        self.shared = self.objective.shared_parameters()
        self.heads = [self.objective.task_parameters(task) for task in self.objective.tasks]

    def forward(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and losses."""
        model, batch = self.objective.model, self.batch
        features = model.features(batch.inputs)
        assert isinstance(features, torch.Tensor)
        losses = [
            spec.loss(model.predict(features, spec.name), batch.targets[spec.name]) for spec in self.objective.specs
        ]
        return features, losses

    def optimizer(self, extra: Iterable[Parameter] = ()) -> Optimizer:
        """The optimizer of configs/optimizer/adam.yaml (fused) on all parameters."""
        return self.spec.make_optimizer([*self.objective.model.parameters(), *extra])


def bare() -> Contender:
    """Forward, head backwards, one backbone backward per task. No aggregation, no optimizer step."""
    problem = Problem()

    def run() -> int:
        features, losses = problem.forward()
        at_features = [
            torch.autograd.grad(loss, [features, *head])[0] for loss, head in zip(losses, problem.heads, strict=True)
        ]
        last = len(losses) - 1
        for k, gradient in enumerate(at_features):
            torch.autograd.grad(features, problem.shared, gradient, retain_graph=k < last)
        return 1

    return Contender(run)


def uniform() -> Contender:
    """An ordinary step on the summed loss."""
    problem = Problem()
    optimizer = problem.optimizer()

    def run() -> int:
        optimizer.zero_grad()
        _, losses = problem.forward()
        torch.stack(losses).sum().backward()
        optimizer.step()
        return 1

    return Contender(run)


def strategy(name: str) -> Contender:
    """Our whole step, as a training run does it. Sequential strategies: time per optimizer step."""
    problem = Problem(name)
    ours = problem.spec.strategy
    generator = torch.Generator().manual_seed(derive_seed(problem.spec.seed, "strategy"))
    ours.setup(problem.objective, problem.spec.make_optimizer, generator)
    if isinstance(ours, SequentialStrategy):
        return Contender(lambda: ours.step(problem.batch).cost.optimizer_steps)

    def run() -> int:
        ours.step(problem.batch)
        return 1

    return Contender(run)


def strategies() -> dict[str, str]:
    """Every configs/strategy/NAME.yaml -> `gradient`, `sequential` or `loss`."""
    kinds = {}
    for path in sorted((config_directory() / "strategy").glob("*.yaml")):
        built = compose(path.stem).strategy
        if isinstance(built, GradientStrategy | SimultaneousStrategy):
            kinds[path.stem] = "gradient"
        else:
            kinds[path.stem] = "sequential" if isinstance(built, SequentialStrategy) else "loss"
    return kinds
