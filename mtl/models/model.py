"""The multi-task model: one backbone, one head per task."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.heads.linear import LinearHead, linear_products
from mtl.seeding import derive_seed
from mtl.tasks import TaskSpec

Features = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""What a backbone returns: shared features z (one tensor or several), or task-specific features by task name."""

HeadFactory = Callable[..., nn.Module]
"""(in_features, num_outputs, output_size) -> head. `in_features`: channels of the feature tensor, or of each of them;
`output_size`: (H, W) of the inputs for a dense task, None for any other."""

JOINT_FROM = 8
"""Linear heads of shared features are evaluated in one product from this many on; below, it does not pay."""


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

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of the heads."""
        return tuple(self.heads)

    def features(self, inputs: Tensor) -> Features:
        """The representation of `inputs`."""
        features: Features = self.backbone(inputs)
        return features

    def predict(self, features: Features, task: str) -> Tensor:
        """The prediction of one task from the representation."""
        read = features[task] if isinstance(features, Mapping) else features
        prediction: Tensor = self.heads[task](read)
        return prediction

    def predict_all(self, features: Features, tasks: Sequence[str]) -> dict[str, Tensor]:
        """The predictions of several tasks, equal to `predict` of each up to rounding.

        Many linear heads of the same features run as one product, and each task still has its own path back: see
        docs/decisions/batched-heads.md. Graphs in which one task's parameters are told from another's (the proof of
        the partition) are built with `predict`.
        """
        heads = [self.heads[task] for task in tasks]
        linear = [head for head in heads if type(head) is LinearHead]
        if len(heads) < JOINT_FROM or len(linear) < len(heads) or not isinstance(features, Tensor):
            return {task: self.predict(features, task) for task in tasks}
        products = linear_products(features, linear)
        return {task: self.heads[task](features, product) for task, product in zip(tasks, products, strict=True)}

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The predictions of all tasks."""
        return self.predict_all(self.features(inputs), self.tasks)


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
        ConfigError: the backbone cannot read inputs of `input_shape`, or the heads do not fit backbone or tasks.
    """
    if len(input_shape) != 3 and any(spec.dense for spec in tasks):
        raise ConfigError(f"Dense tasks need images (C, H, W). Found `input_shape = {input_shape}`.")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(seed, "backbone"))
        trunk = backbone(input_shape=input_shape, tasks=tuple(spec.name for spec in tasks))
        in_features = getattr(trunk, "out_features", None)
        if not isinstance(in_features, int | tuple):
            raise ConfigError(f"Backbone {type(trunk).__name__} should have `out_features`: an integer, or a tuple.")
        heads = {}
        for spec in tasks:
            torch.manual_seed(derive_seed(seed, "head", spec.name))
            output_size = tuple(input_shape[1:]) if spec.dense else None
            heads[spec.name] = head(in_features=in_features, num_outputs=spec.num_outputs, output_size=output_size)
    return MultiTaskModel(trunk, heads)
