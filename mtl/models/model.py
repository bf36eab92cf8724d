"""The multi-task model: one backbone, one head per task."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.view import Features, FeatureView
from mtl.seeding import derive_seed
from mtl.tasks import TaskSpec

HeadFactory = Callable[..., nn.Module]
"""(in_features, num_outputs) -> head."""


class MultiTaskModel(nn.Module):
    """Backbone and heads.

    Args:
        backbone: inputs (B, ...) -> features. A tensor or a tuple of tensors is one shared representation that every
            head reads; a mapping holds one representation per task, and then nothing is exposed as shared features.
        heads: One module per task, in task order; each maps its features to predictions (B, num_outputs, ...).
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.view = FeatureView()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of the heads."""
        return tuple(self.heads)

    def features(self, inputs: Tensor, tasks: Sequence[str] | None = None) -> Features:
        """The representation of `inputs`, as far as `tasks` (all for None) need it."""
        return self.view.features(self.backbone, inputs, self.tasks if tasks is None else tasks)

    def predict(self, features: Features, task: str) -> Tensor:
        """The prediction of one task from the representation."""
        prediction: Tensor = self.heads[task](self.view.read(features, task))
        return prediction

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The predictions of all tasks."""
        features = self.features(inputs)
        return {task: self.predict(features, task) for task in self.tasks}


def build_model(
    backbone: Callable[..., nn.Module],
    head: HeadFactory,
    tasks: Sequence[TaskSpec],
    input_shape: tuple[int, ...],
    seed: int,
) -> MultiTaskModel:
    """Build backbone and heads with initial weights that depend on `seed` alone.

    The backbone's initial weights do not depend on the tasks, and a head's depend on its task's name but not on the
    other tasks: a single-task baseline starts from the same point as the multi-task network.

    Raises:
        ConfigError: the backbone cannot read inputs of `input_shape`.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(seed, "backbone"))
        trunk = backbone(input_shape=input_shape, tasks=tuple(spec.name for spec in tasks))
        in_features = getattr(trunk, "out_features", None)
        if not isinstance(in_features, int):
            raise ConfigError(f"Backbone {type(trunk).__name__} should have an integer `out_features`.")
        heads = {}
        for spec in tasks:
            torch.manual_seed(derive_seed(seed, "head", spec.name))
            heads[spec.name] = head(in_features=in_features, num_outputs=spec.num_outputs)
    return MultiTaskModel(trunk, heads)
