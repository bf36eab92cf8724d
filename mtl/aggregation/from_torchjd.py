"""Aggregators of the package torchjd."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl.aggregation.base import LEVELS, Aggregator, Combination, TaskGradients
from mtl.errors import ConfigError

SAVED = (type(None), bool, int, float, str, Tensor, torch.dtype, torch.device, torch.Size)
"""What a state may be made of: what a checkpoint can hold."""
INTERNAL = frozenset(vars(nn.Module()))


class FromTorchJD(Aggregator):
    """Any aggregator of torchjd (an optional package) as a method here.

    Where it gives weights, so does this: on the Gramian in float64 if that is all it needs, otherwise on the task
    gradients (m, n). The others (ConFIG, GradDrop, TrimmedMean) give a direction.

    Args:
        aggregator: A `torchjd.aggregation.Aggregator`.

    Randomness: torchjd draws from torch's global generators. They are seeded from the strategy's generator for each
    call and put back afterwards.

    State: torchjd keeps some in plain attributes that its `state_dict()` lacks. All state of its stateful parts is
    saved here; one that holds other things than tensors and plain values (its NashMTL: a solver's objects) is refused.

    `batch_axis: summed` has an effect on aggregators that need the Gramian alone.

    Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv:2406.16232, for the
    package; the documentation of each aggregator names its own.

    **Deviations.** From torchjd used alone: the draws come from the strategy's generator, and the state is saved; none
    in the mathematics. Where we have the same method (`strategy=cagrad`, ...) its page says how torchjd's differs.

    Raises:
        ConfigError: torchjd is not installed, this is none of its aggregators, its state cannot be saved, or (in
            `setup`) it refuses matrices with as many rows as there are tasks.
    """

    def __init__(self, aggregator: Any) -> None:
        super().__init__()
        try:
            import torchjd
            from torchjd import aggregation
        except ImportError as error:
            raise ConfigError(
                "FromTorchJD needs the package torchjd, which is not installed. Install it with `pip install torchjd`."
            ) from error
        if not isinstance(aggregator, aggregation.Aggregator):
            raise ConfigError(
                f"Parameter `aggregator` should be an aggregator of torchjd. Found `{type(aggregator).__name__}`. "
                "Weightings have to be put into a `torchjd.aggregation.GramianWeightedAggregator`."
            )
        self._held: tuple[Any] = (aggregator,)  # not a submodule: its state is saved below, in whole
        self._stateful: dict[str, nn.Module] = {
            name: module for name, module in aggregator.named_modules() if issubclass(type(module), torchjd.Stateful)
        }
        self._pending: dict[str, dict[str, Any]] | None = None
        self._by_gramian = isinstance(aggregator, aggregation.GramianWeightedAggregator)
        self.gives_weights = isinstance(aggregator, aggregation.WeightedAggregator)
        self.levels = LEVELS if self.gives_weights else ("parameters", "features")
        self.generator: torch.Generator | None = None
        self.get_extra_state()

    def setup(self, num_tasks: int, generator: torch.Generator) -> None:
        """Take the generator; try a copy of the aggregator on m orthogonal gradients."""
        self.generator = generator
        aggregator = self._held[0]
        try:
            with torch.random.fork_rng(devices=[]):
                copy.deepcopy(aggregator)(torch.eye(num_tasks))
        except ValueError as error:
            raise ConfigError(f"torchjd's {aggregator} cannot combine {num_tasks} tasks: {error}") from error

    def aggregate(self, gradients: TaskGradients) -> Combination:
        """Call torchjd."""
        aggregator = self._held[0]
        matrix = gradients.gramian if self._by_gramian else gradients.rows
        self._restore(matrix.device)
        devices = list(range(torch.cuda.device_count())) if matrix.is_cuda else []
        seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            if not self.gives_weights:
                return Combination(direction=aggregator(matrix))
            weighting = aggregator.gramian_weighting if self._by_gramian else aggregator.weighting
            weights: Tensor = weighting(matrix)
        return Combination(weights=weights.to("cpu", torch.float64))

    def get_extra_state(self) -> dict[str, dict[str, Any]]:
        """State of every stateful part, by its name in the aggregator."""
        if self._pending is not None:
            return self._pending
        return {name: self._state_of(module) for name, module in self._stateful.items()}

    def set_extra_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue from it; put in place at the next step, when the device is known."""
        self._pending = {name: dict(values) for name, values in state.items()}

    def _state_of(self, module: nn.Module) -> dict[str, Any]:
        state = {**module._buffers, **{key: value for key, value in vars(module).items() if key not in INTERNAL}}
        for key, value in state.items():
            if not all(isinstance(part, SAVED) for part in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(
                    f"The state of torchjd's {type(module).__name__} cannot be saved: `{key}` is of type "
                    f"{type(value).__name__}. A run with it could not be resumed. Use a method of this project, or an "
                    "aggregator of torchjd without such a state."
                )
        return state

    def _restore(self, device: torch.device) -> None:
        if self._pending is None:
            return
        for name, values in self._pending.items():
            for key, value in values.items():
                setattr(self._stateful[name], key, moved(value, device))
        self._pending = None


def moved(value: Any, device: torch.device) -> Any:
    """A saved value for use on `device`; tensors are copied."""
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, torch.device):
        return device
    if type(value) is tuple:
        return tuple(moved(part, device) for part in value)
    return value
