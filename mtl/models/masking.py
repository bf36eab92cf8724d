"""Task masks over the units of shared layers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl.models.view import Features, FeatureView

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALISATIONS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class MaskedLayer:
    """A layer whose units are masked.

    Attributes:
        name: Of the convolution or linear layer in the backbone.
        output: Of the module whose output is multiplied by the mask: a normalisation right behind the layer, or itself.
        units: Output channels or features.
        axis: Of the units in the output: 1, or -1 for linear layers.
    """

    name: str
    output: str
    units: int
    axis: int


def find_layers(backbone: nn.Module, inputs: Tensor, linear: bool) -> list[MaskedLayer]:
    """The convolutions (and linear layers) of `backbone` with trainable weights, in the order of their first use.

    Runs the backbone once in evaluation mode and follows outputs from module to module.
    """
    kinds = (*CONVOLUTIONS, nn.Linear) if linear else CONVOLUTIONS
    found: dict[str, str] = {}  # layer -> module whose output is masked
    produced: dict[int, tuple[Tensor, str]] = {}  # tensors are kept, so that an id is not used twice

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: Any, output: Tensor) -> None:
            if isinstance(module, kinds) and module.weight.requires_grad:
                found.setdefault(name, name)
                produced[id(output)] = (output, name)
            elif isinstance(module, NORMALISATIONS) and id(arguments[0]) in produced:
                found[produced[id(arguments[0])][1]] = name

        return hook

    training = backbone.training
    with ExitStack() as stack, torch.no_grad():
        stack.callback(backbone.train, training)
        for name, module in backbone.named_modules():
            stack.callback(module.register_forward_hook(note(name, module)).remove)
        backbone.eval()
        backbone(inputs)
    layers = []
    for name, output in found.items():
        module = backbone.get_submodule(name)
        is_linear = isinstance(module, nn.Linear)
        units = module.out_features if is_linear else module.out_channels
        assert isinstance(units, int)
        layers.append(MaskedLayer(name, output, units, -1 if is_linear else 1))
    return layers


class MaskView(FeatureView):
    """One pass of the backbone per task, in which that task's masks multiply the layers' outputs.

    BatchNorm keeps running statistics per task, here and not in the layer: the tasks' activations differ, and an
    evaluation with statistics of another task would be another function.

    Args:
        tasks: Task names.
        layers: Which layers are masked.
        backbone: To find its BatchNorm layers; not kept.

    Attributes:
        masks: Per layer (m, units), True where the task uses the unit. Buffers, all True at first.
    """

    def __init__(self, tasks: Sequence[str], layers: Sequence[MaskedLayer], backbone: nn.Module) -> None:
        super().__init__()
        self._index = {task: k for k, task in enumerate(tasks)}
        self.layers = tuple(layers)
        for i, layer in enumerate(self.layers):
            self.register_buffer(f"mask_{i}", torch.ones((len(tasks), layer.units), dtype=torch.bool))
        modules = [(name, module) for name, module in backbone.named_modules() if isinstance(module, _BatchNorm)]
        self._norms = tuple(name for name, module in modules if module.running_mean is not None)
        for i, name in enumerate(self._norms):
            module = backbone.get_submodule(name)
            for key in STATISTICS:
                value = getattr(module, key)
                self.register_buffer(f"{key}_{i}", value.clone().expand(len(tasks), *value.shape).clone())

    @property
    def masks(self) -> list[Tensor]:
        """The masks of all layers."""
        return [self.get_buffer(f"mask_{i}") for i in range(len(self.layers))]

    def statistics(self, task: str) -> dict[str, Tensor]:
        """BatchNorm's running statistics of one task, named as in the backbone's state."""
        k = self._index[task]
        named = [(f"{name}.{key}", f"{key}_{i}") for i, name in enumerate(self._norms) for key in STATISTICS]
        return {name: self.get_buffer(mine)[k] for name, mine in named}

    def features(self, backbone: nn.Module, inputs: Tensor, tasks: Sequence[str]) -> Features:
        """Task name -> its representation, for every task in `tasks`."""
        found: dict[str, Any] = {}
        for task in tasks:
            with self._acting(backbone, self._index[task]):
                found[task] = FeatureView.read(self, backbone(inputs), task)
        return found

    @contextmanager
    def _acting(self, backbone: nn.Module, task: int) -> Iterator[None]:
        """Let the masks and statistics of one task act inside `backbone`."""
        with ExitStack() as stack:
            for layer, mask in zip(self.layers, self.masks, strict=True):
                hook = _multiplier(mask[task], layer.axis)
                stack.callback(backbone.get_submodule(layer.output).register_forward_hook(hook).remove)
            for i, name in enumerate(self._norms):
                stack.enter_context(self._own_statistics(backbone.get_submodule(name), i, task))
            yield

    @contextmanager
    def _own_statistics(self, norm: nn.Module, i: int, task: int) -> Iterator[None]:
        """Copies in, results out: a graph may hold the copies, and it is not known here whether buffers are frozen."""
        originals = {key: norm._buffers[key] for key in STATISTICS}
        rows = {key: self.get_buffer(f"{key}_{i}")[task] for key in STATISTICS}
        norm._buffers.update({key: row.clone() for key, row in rows.items()})
        try:
            yield
            if norm.training:
                for key, row in rows.items():
                    row.copy_(norm.get_buffer(key))
        finally:
            norm._buffers.update(originals)


def _multiplier(mask: Tensor, axis: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        shape = [1] * output.ndim
        shape[axis] = len(mask)
        return output * mask.view(shape).to(output.dtype)

    return hook
