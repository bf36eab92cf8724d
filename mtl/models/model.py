"""The multi-task model: one backbone, one head per task."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.errors import ConfigError
from mtl.models.heads.linear import LinearHead, linear_products
from mtl.models.view import Features, FeatureView
from mtl.seeding import derive_seed
from mtl.tasks import TaskSpec
from mtl.validation import check_choice

HeadFactory = Callable[..., nn.Module]
"""(in_features, num_outputs, output_size) -> head. `in_features`: channels of the feature tensor, or of each of them;
`output_size`: (H, W) of the inputs for a dense task, None for any other."""

PRECISIONS = ("float32", "bfloat16")
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
        self.view = FeatureView()
        self.compiled = False
        self._bfloat16 = False
        self._lays_out = not any(writes_past_its_memory(module) for module in self.modules())

    def compile_backbone(self, backend: str = "inductor") -> None:
        """Run the backbone through `torch.compile` from now on. Names of layers, parameters and buffers stay.

        Args:
            backend: Of `torch.compile`.
        """
        from torch._functorch import config

        config.donated_buffer = False  # would forbid to go back through one graph once a task
        self.backbone.compile(backend=backend)
        self.compiled = True

    def use_precision(self, name: str) -> None:
        """Compute the backbone in `float32`, or in `bfloat16` by torch.autocast.

        Parameters, features, heads and losses are float32 in both cases, and so are all gradients.

        Args:
            name: One of `PRECISIONS`.
        """
        check_choice("precision", name, PRECISIONS)
        self._bfloat16 = name == "bfloat16"

    @property
    def precision(self) -> str:
        """What the backbone is computed in."""
        return "bfloat16" if self._bfloat16 else "float32"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of the heads."""
        return tuple(self.heads)

    def features(self, inputs: Tensor, tasks: Sequence[str] | None = None) -> Features:
        """The representation of `inputs`, as far as `tasks` (all for None) need it."""
        names = self.tasks if tasks is None else tasks
        if not self._bfloat16:
            return self.view.features(self.backbone, self._images(inputs), names)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            found = self.view.features(self.backbone, self._images(inputs), names)
        return _in_float32(found)

    def _images(self, inputs: Tensor) -> Tensor:
        return laid_out(inputs) if self._lays_out else inputs

    def predict(self, features: Features, task: str) -> Tensor:
        """The prediction of one task from the representation."""
        prediction: Tensor = self.heads[task](self.view.read(features, task))
        return prediction

    def predict_all(
        self, features: Features, tasks: Sequence[str], apart: Sequence[Features] = ()
    ) -> dict[str, Tensor]:
        """The predictions of several tasks, equal to `predict` of each up to rounding.

        Many linear heads of the same features run as one product, and each task still has its own path back: see
        docs/decisions/batched-heads.md. Graphs in which one task's parameters are told from another's (the proof of
        the partition) are built with `predict`.

        Args:
            features: What `features` returned.
            tasks: Names.
            apart: For each task the features that it reads, with the values of `features`, so that what the tasks send
                back can be told apart; empty where it need not be.
        """
        heads = [self.heads[task] for task in tasks]
        linear = [head for head in heads if type(head) is LinearHead]
        sources = apart or [features] * len(tasks)
        reads = [self.view.read(source, task) for source, task in zip(sources, tasks, strict=True)]
        expected = sources if apart else reads[:1] * len(reads)  # a view may give heads features of their own
        same = all(read is other for read, other in zip(reads, expected, strict=True))
        if not same or len(heads) < JOINT_FROM or len(linear) < len(heads) or not isinstance(reads[0], Tensor):
            return {task: head(read) for task, head, read in zip(tasks, heads, reads, strict=True)}
        products = linear_products(reads if apart else reads[:1], linear)  # type: ignore[arg-type] # all are tensors
        return {
            task: head(read, product) for task, head, read, product in zip(tasks, heads, reads, products, strict=True)
        }

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The predictions of all tasks."""
        return self.predict_all(self.features(inputs), self.tasks)


def laid_out(inputs: Tensor) -> Tensor:
    """Images on a CPU with channels last, the layout in which convolutions, norms and pooling are faster there.

    Everything behind them keeps the layout; weights stay as they are, and so do gradients and optimizers. Equal to the
    other layout up to rounding. Left as they are: other shapes, and other devices (not measured there).
    """
    if inputs.dim() == 4 and inputs.device.type == "cpu":
        return inputs.to(memory_format=torch.channels_last)
    return inputs


def writes_past_its_memory(module: nn.Module) -> bool:
    """Whether the weight gradient of `module` corrupts memory on channels-last inputs (oneDNN in torch 2.14, CPU).

    Found for strided 1x1 convolutions of up to 12 channels, not from 16 on, and not for other layouts.
    """
    return (
        isinstance(module, nn.Conv2d) and max(module.kernel_size) == 1 < max(module.stride) and module.in_channels < 16
    )


def _in_float32(features: Features) -> Features:
    if isinstance(features, Tensor):
        return features.float()
    if isinstance(features, Mapping):
        return {task: _in_float32(own) for task, own in features.items()}  # type: ignore[misc]
    return tuple(own.float() for own in features)


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
