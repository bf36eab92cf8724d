"""The networks that steps are measured on: each contender has one of its own, with the same weights and batch."""

import ctypes
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.optim import Optimizer

from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.datasets.base import Batch
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.strategies import Strategy
from mtl.strategies.base import MakeOptimizer
from mtl.tasks import TaskSpec
from mtl.training.runner import prepare_process
from mtl.training.spec import RunSpec

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's <malloc.h>."""
COMMON = ("optimizer=adam", "trainer.device=cpu")

MakeTarget = Callable[[TaskSpec, int, torch.Generator], Tensor]
"""(task, samples, generator) -> its target."""


@dataclass(frozen=True)
class Setting:
    """A network with its tasks, composed from configs/, and a batch of random data in the shapes of its data set.

    Attributes:
        name: For the reader.
        overrides: As on the command line.
        batch_size: Samples.
        target: Makes the random target of a task.
        tasks: So many tasks like the data set's first one; None for those of the data set.
    """

    name: str
    overrides: tuple[str, ...]
    batch_size: int
    target: MakeTarget
    tasks: int | None = None


def _classes(spec: TaskSpec, batch: int, generator: torch.Generator) -> Tensor:
    return torch.randint(spec.num_outputs, (batch,), generator=generator)


def attributes(_: TaskSpec, batch: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (batch,), generator=generator)


def _maps(spec: TaskSpec, batch: int, generator: torch.Generator) -> Tensor:
    """Classes with void pixels; unit vectors, or values, with their validity."""
    size = (96, 128)
    if spec.kind == "classification":
        return torch.randint(-1, spec.num_outputs, (batch, *size), generator=generator)
    values = torch.randn((batch, spec.num_outputs, *size), generator=generator)
    valid = torch.rand((batch, 1, *size), generator=generator) < 0.8
    return torch.cat([functional.normalize(values, dim=1), valid.to(values)], dim=1)


LENET = Setting("LeNet, 2 tasks", ("dataset=multimnist", "backbone=lenet", "heads=linear"), 256, _classes)
RESNET = Setting(
    "ResNet-18, 40 tasks",
    ("dataset=celeba", "backbone=timm", "backbone.name=resnet18", "backbone.features=pooled", "heads=linear"),
    16,
    attributes,
)
SCENES = ("dataset=nyuv2_small", "dataset.augmentation=null", "heads=conv")
UNET = Setting("small U-Net, 3 tasks", (*SCENES, "backbone=unet_small"), 8, _maps)
SEGNET = Setting("small SegNet, 3 tasks", (*SCENES, "backbone=segnet_small"), 8, _maps)


def compose(overrides: Sequence[str]) -> RunSpec:
    """The parts of a run, by the same code as a training run."""
    return build_spec(*compose_config([*overrides, *COMMON]))


def compose_step(setting: Setting, text: str) -> RunSpec:
    """The same for a setting, and the name of a strategy with options: `mgda gramian=ghost`."""
    name, *options = text.split()
    return compose([*setting.overrides, f"strategy={name}", *(f"strategy.{option}" for option in options)])


def prepare(threads: int, keep_memory: bool = True) -> None:
    """The process as a training run has it, with so many threads.

    Args:
        threads: Of torch.
        keep_memory: Freed memory stays with the process. glibc gives large buffers back to the system after every step
            and faults them in again page by page: a fifth of a step here, and by chance more for one contender than
            for another. Where memory itself is measured, buffers of a MB and more go back at once.
    """
    spec = compose(LENET.overrides)
    prepare_process(spec.trainer, spec.seed)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, (32 if keep_memory else 1) << 20)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1 if keep_memory else 1 << 20)


def torch_adam(parameters: Iterable[Parameter] | Iterable[dict[str, Any]]) -> Optimizer:
    """torch.optim.Adam, fused, with the options of configs/optimizer/adam.yaml, which are torch's own defaults."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


class Problem:
    """A network of its own with the same initial weights as every other, and the same random batch.

    Args:
        setting: The network, its tasks and its data.
        strategy: Name of the strategy and overrides of its options, as on the command line: `mgda gramian=ghost`.

    Attributes:
        spec: Composed from configs/ by the same code as a training run.
        objective: Model and tasks.
        batch: Random inputs and targets.
    """

    def __init__(self, setting: Setting, strategy: str = "uniform") -> None:
        self.setting = setting
        self.spec = compose_step(setting, strategy)
        data = self.spec.data
        tasks = data.tasks
        if setting.tasks is not None:
            tasks = tuple(replace(tasks[0], name=f"task{k}") for k in range(setting.tasks))
        model = build_model(self.spec.backbone, self.spec.head, tasks, data.input_shape, self.spec.seed)
        self.objective = MultiTaskObjective(model, tasks, data.input_shape)
        generator = torch.Generator().manual_seed(0)
        self.batch = Batch(
            torch.randn((setting.batch_size, *data.input_shape), generator=generator),
            {spec.name: setting.target(spec, setting.batch_size, generator) for spec in tasks},
        )
        self.shared = self.objective.shared_parameters()
        self.heads = [self.objective.task_parameters(task) for task in self.objective.tasks]

    def forward(self, tasks: Sequence[int] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Features, and losses of all tasks or of those asked for."""
        model, batch, specs = self.objective.model, self.batch, self.objective.specs
        features = model.features(batch.inputs)
        assert isinstance(features, Tensor)
        chosen = specs if tasks is None else [specs[task] for task in tasks]
        return features, [spec.loss(model.predict(features, spec.name), batch.targets[spec.name]) for spec in chosen]

    def optimizer(self, extra: Iterable[Parameter] = ()) -> Optimizer:
        """The fused Adam of torch on all parameters, for steps by hand and for rivals."""
        return torch_adam([*self.objective.model.parameters(), *extra])

    def strategy(self, text: str | None = None, make_optimizer: MakeOptimizer | None = None) -> Strategy:
        """The strategy, set up as in a training run; or another one on the same network, or with another optimizer."""
        ours = (self.spec if text is None else compose_step(self.setting, text)).strategy
        generator = torch.Generator().manual_seed(derive_seed(self.spec.seed, "strategy"))
        ours.setup(self.objective, make_optimizer or self.spec.make_optimizer, generator)
        return ours
