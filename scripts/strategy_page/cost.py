"""What a step of a method costs, measured on small networks of different sizes and put into formulas of these sizes."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl.datasets.base import Loader
from mtl.models.model import MultiTaskModel
from mtl.strategies import StepCost, Strategy
from tests.problems import adam, begin, build_strategy, make_batches, make_objective, make_spec

TASKS = ("a", "b", "c", "d", "e")
SIZES = [
    *[(m, 8, 7, 6, 4, 7) for m in (2, 3, 4, 5)],
    *[(m, 11, 7, 6, 4, 7) for m in (2, 3, 4)],
    *[(m, 8, 9, 6, 4, 7) for m in (2, 3, 5)],
    *[(m, 8, 7, 5, 4, 7) for m in (2, 3, 4)],
    *[(m, 8, 7, 6, 6, 7) for m in (2, 3)],
    *[(m, 8, 7, 6, 4, 9) for m in (2, 3)],
    (4, 11, 9, 5, 6, 9),
]
"""(m, widths of the backbone's three layers, width of a head's, samples of a batch) of each measurement."""
SYMBOLS = ([], ["m"], ["m", "m"], ["M", "n"], *([*m, x] for x in "nlhDR" for m in ([], ["m"])))
STEPS = ([], ["m"], ["M"], ["B"], ["m", "B"])
COUNTS = ("forwards", "backwards", "backbone_backwards", "optimizer_steps", "samples")


class Network:
    """A backbone of three layers and m heads of two layers.

    Attributes:
        model: Backbone and heads.
        sizes: Numbers of parameters: n of the backbone, l of its last layer, h of a head.
    """

    def __init__(self, m: int, first: int, second: int, features: int, hidden: int) -> None:
        torch.manual_seed(1)
        layers = [nn.Linear(5, first), nn.Tanh(), nn.Linear(first, second), nn.Tanh(), nn.Linear(second, features)]
        heads = {
            task: nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 3)) for task in TASKS[:m]
        }
        trunk = nn.Sequential(*layers)
        self.model = MultiTaskModel(trunk, heads).to(torch.float64).train()
        counted = {"n": trunk, "l": layers[-1], "h": heads["a"]}
        self.sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in counted.items()}


@dataclass(frozen=True)
class Cost:
    """Formulas in m tasks, M groups of two, n shared parameters, l of the last shared layer, h of a head, B samples,
    D features in them, R entries of a rotation of the features.

    Attributes:
        counts: Of the fields of `StepCost`.
        state: Floats kept between steps, beyond the network and what one optimizer for all tasks keeps.
    """

    counts: dict[str, str]
    state: str


def measure(name: str) -> Cost:
    """Train the method for three steps at every size of `SIZES`, with Adam; take the dearest step."""
    costs, floats, terms = [], [], []
    for size in SIZES:
        cost, kept, network = _run(name, *size)
        costs.append(cost)
        floats.append(kept - _plain(size))
        m, features, samples = size[0], size[3], size[5]
        own = {"M": -(-m // 2), "B": samples, "D": features * samples, "R": features * (features - 1) // 2}
        terms.append({"m": m, **network.sizes, **own})
    counts = {key: _formula([getattr(cost, key) for cost in costs], terms, list(STEPS)) for key in COUNTS}
    return Cost(counts, _formula(floats, terms, list(SYMBOLS)))


@functools.cache
def _plain(size: tuple[int, int, int, int, int, int]) -> int:
    """Floats that plain training keeps: one optimizer's."""
    return _run("uniform", *size)[1]


def _run(
    name: str, m: int, first: int, second: int, features: int, hidden: int, samples: int
) -> tuple[StepCost, int, Network]:
    network = Network(m, first, second, features, hidden)
    objective = make_objective(specs=[make_spec(task) for task in TASKS[:m]], model=network.model)
    strategy = begin(build_strategy(name), objective, adam, batch_size=samples)
    reports = [strategy.step(batch) for batch in make_batches(TASKS[:m], count=3, size=samples)]
    dearest = StepCost(*(max(getattr(report.cost, key) for report in reports) for key in COUNTS))
    return dearest, kept_floats(strategy), network


def kept_floats(strategy: Strategy) -> int:
    """Numbers in the floating-point tensors that a strategy holds between steps, without the network's."""
    own = {p.data_ptr() for p in strategy.objective.model.parameters()}
    own |= {b.data_ptr() for b in strategy.objective.model.buffers()}
    found: dict[int, int] = {}
    for tensor in _tensors(vars(strategy), {id(strategy.objective)}):
        if tensor.is_floating_point() and tensor.dim() > 0 and tensor.data_ptr() not in own:
            key = tensor.untyped_storage().data_ptr()
            found[key] = max(found.get(key, 0), tensor.untyped_storage().nbytes() // tensor.element_size())
    return sum(found.values())


def _tensors(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor within nested containers, modules, optimizers and objects of this project; data is no state."""
    if id(thing) in seen or isinstance(thing, Loader):
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
        if thing.grad is not None:
            yield thing.grad
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _tensors(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _tensors(value, seen)
    elif isinstance(thing, Optimizer):
        yield from _tensors([thing.state, thing.param_groups], seen)
        for state in thing.state.values():
            yield from _tensors(state, seen)
    elif type(thing).__module__.startswith("mtl.") and hasattr(thing, "__dict__"):
        yield from _tensors(vars(thing), seen)


def _formula(values: list[int], terms: list[dict[str, int]], names: list[list[str]]) -> str:
    """The exact linear combination of products of terms, with the fewest; else the value at m = 3."""
    rows = [[_product(point, name) for name in names] for point in terms]
    matrix, right = torch.tensor(rows, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    assert torch.linalg.matrix_rank(matrix) == len(names), "SIZES do not tell the terms apart"
    solution = torch.linalg.lstsq(matrix, right[:, None]).solution[:, 0].round()
    if not torch.equal(matrix @ solution, right):
        at = next(index for index, point in enumerate(terms) if point["m"] == 3)
        return f"{values[at]} (m = 3)"
    parts = []
    for factor, name in sorted(zip(solution.tolist(), names, strict=True), key=lambda pair: (-len(pair[1]), pair[1])):
        if factor != 0:
            symbol = " ".join(name).replace("m m", "m²")
            size = "" if abs(factor) == 1 and symbol else f"{abs(factor):g}"
            parts += [("- " if factor < 0 else "+ ") + " ".join(filter(None, (size, symbol)))]
    return " ".join(parts).removeprefix("+ ") if parts else "0"


def _product(point: dict[str, int], name: list[str]) -> int:
    result = 1
    for key in name:
        result *= point[key]
    return result
