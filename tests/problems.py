"""Small problems that the laws are tested on. Real modules, no mocks; float64 where equality is the point."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.config.plugins import find_configs
from mtl.datasets.base import Batch, Loader, TensorSplit
from mtl.models.model import MultiTaskModel
from mtl.objective import MultiTaskObjective
from mtl.strategies import Strategy
from mtl.tasks import Accuracy, TaskSpec

STRATEGIES = sorted(find_configs("strategy"))
"""Every method, also of packages in MTL_PLUGINS; its presets (configs/strategy/METHOD/*.yaml) are not among them."""


@dataclass(frozen=True)
class Variant:
    """A method as the laws meet it: its YAML as it is, or the same at another level or with another Gramian.

    Attributes:
        name: Its file in configs/strategy.
        level: Where it compares task gradients; None if it has no `level`.
        overrides: What differs from the file.
    """

    name: str
    level: str | None
    overrides: tuple[str, ...] = ()


GRAMIANS = {
    "ghost": {},
    "features": {"ema": 0.5},
    "sketch": {"ema": 0.5, "weights_every": 2},
}
"""How a Gramian is found, and what else is on then, so that the laws meet all of it."""


def find_variants() -> dict[str, Variant]:
    """METHOD, and METHOD-LEVEL for `parameters` and `features`, METHOD-features-summed, where the method allows it.

    Methods that need the Gramian alone: METHOD-gramian-HOW at `parameters` too.
    """
    found = {}
    for name in STRATEGIES:
        node = OmegaConf.load(find_configs("strategy")[name])
        base = node.get("level")
        found[name] = Variant(name, base)
        if base is None:
            continue
        aggregator = instantiate(node, _convert_="all").aggregator
        allowed = aggregator.levels
        for level in ("parameters", "features"):
            if level in allowed and level != base:
                found[f"{name}-{level}"] = Variant(name, level, (f"strategy.level={level}",))
        if "features" in allowed and node.get("batch_axis") == "kept":
            overrides = ("strategy.level=features", "strategy.batch_axis=summed")
            found[f"{name}-features-summed"] = Variant(name, "features", overrides)
        if "parameters" in allowed and not aggregator.needs_rows:
            for how, others in GRAMIANS.items():
                options = {"level": "parameters", "gramian": how} | others
                overrides = tuple(f"{'' if key in node else '+'}strategy.{key}={options[key]}" for key in options)
                found[f"{name}-gramian-{how}"] = Variant(name, "parameters", overrides)
    return found


VARIANTS = find_variants()


def ghosts_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every layer that can go without rows do so, however small: the networks here are too small for it to pay."""
    monkeypatch.setattr("mtl.gradients.ghost_layer.cost_of_products", lambda *_: 0)


def squared(prediction, target):
    return ((prediction - target) ** 2).mean()


def make_spec(name: str, kind: str = "regression", loss=squared) -> TaskSpec:
    return TaskSpec(name, 3, kind, loss, {"accuracy": Accuracy})


class Trunk(nn.Module):
    """Two layers with BatchNorm between them: buffers, a bias, parameters of one and two axes."""

    def __init__(self, batch_norm: bool = True, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(5, width)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.last = nn.Linear(width, 6)
        self.out_features = 6

    def forward(self, inputs):
        return torch.tanh(self.last(torch.tanh(self.norm(self.first(inputs)))))


def make_model(tasks, batch_norm: bool = False, dtype=torch.float64) -> MultiTaskModel:
    """Initial weights of a head depend on its name only, so that reordering tasks changes nothing else."""
    torch.manual_seed(1)
    trunk = Trunk(batch_norm)
    heads = {}
    for task in tasks:
        torch.manual_seed(100 + sum(task.encode()))
        heads[task] = nn.Linear(6, 3)
    return MultiTaskModel(trunk, heads).to(dtype).train()


def make_objective(tasks=("a", "b", "c"), batch_norm: bool = False, dtype=torch.float64, specs=None, model=None):
    specs = specs or [make_spec(task) for task in tasks]
    model = model or make_model([spec.name for spec in specs], batch_norm, dtype)
    torch.set_default_dtype(dtype)
    try:
        return MultiTaskObjective(model, specs, (5,))
    finally:
        torch.set_default_dtype(torch.float32)


def make_batches(tasks=("a", "b", "c"), count: int = 6, size: int = 7, dtype=torch.float64, seed: int = 3):
    """Targets depend on the task's name only."""
    batches = []
    for index in range(count):
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        inputs = torch.randn(size, 5, generator=generator, dtype=torch.float64)
        targets = {}
        for task in tasks:
            own = torch.Generator().manual_seed(seed * 1000 + index + 7 * sum(task.encode()))
            targets[task] = 2 * torch.randn(size, 3, generator=own, dtype=torch.float64).to(dtype)
        batches.append(Batch(inputs.to(dtype), targets))
    return batches


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Strategy:
    return build_spec(*compose_config(overrides)).strategy


def build_strategy(name: str, *overrides: str) -> Strategy:
    """A strategy that no other test has used, by the name of a variant or of a preset (METHOD/PRESET).

    Composing a configuration is what takes time, so that is done once.
    """
    variant = VARIANTS.get(name, Variant(name, None))
    return copy.deepcopy(_composed((f"strategy={variant.name}", *variant.overrides, *overrides)))


def fast_warmup(name: str) -> list[str]:
    """Overrides that let a strategy (or a variant of it) leave its start-up phase within a few steps."""
    return {
        "selective_groups": ["strategy.grouping.warmup_iterations=2"],
        "stch": ["strategy.weighting.warmup_epochs=0"],
        "tag_affinity": ["strategy.measure_every=2"],
        "maximum_roaming": ["strategy.updates_end=4"],
    }.get(VARIANTS[name].name if name in VARIANTS else name.partition("/")[0], [])


def small_loaders(objective, batch_size: int = 5) -> dict[str, Loader]:
    """Loaders for `Strategy.attach`: 12 samples each, of data that `make_batches` does not give by default."""
    dtype = next(objective.model.parameters()).dtype
    loaders = {}
    for index, split in enumerate(("train", "val")):
        (whole,) = make_batches(objective.tasks, count=1, size=12, dtype=dtype, seed=11 + index)
        data = TensorSplit(whole.inputs, whole.targets)
        loaders[split] = Loader(data, batch_size, shuffle=split == "train", drop_last=False, seed=4)
    return loaders


def begin(
    strategy: Strategy, objective, make_optimizer: Callable = sgd, seed: int = 0, batch_size: int = 5
) -> Strategy:
    """All that a run does with a strategy before its first step."""
    strategy.setup(objective, make_optimizer, torch.Generator().manual_seed(seed))
    strategy.attach(small_loaders(objective, batch_size))
    return strategy


def train(strategy: Strategy, objective, batches, make_optimizer: Callable = sgd, seed: int = 0, epoch: int = 3):
    begin(strategy, objective, make_optimizer, seed)
    reports = []
    for index, batch in enumerate(batches, start=1):
        reports.append(strategy.step(batch))
        if index % epoch == 0:
            strategy.end_epoch()
    return reports


def parameters_of(objective) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in objective.model.named_parameters()}


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def plain_steps(objective, batches, make_optimizer: Callable = sgd, weights=None):
    """The summed-loss loop that every textbook has, written out."""
    optimizer = make_optimizer(list(objective.model.parameters()))
    for batch in batches:
        evaluation = objective.evaluate(batch)
        factors = weights or [1.0] * len(evaluation.losses)
        optimizer.zero_grad(set_to_none=True)
        sum(factor * loss for factor, loss in zip(factors, evaluation.losses, strict=True)).backward()
        optimizer.step()
    return parameters_of(objective)


REPOSITORY = Path(__file__).parents[1]
