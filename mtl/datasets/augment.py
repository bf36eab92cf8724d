"""Augmentation of whole batches, with separate draws for every sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtl.datasets.base import Batch
from mtl.errors import ConfigError
from mtl.tasks import IGNORE
from mtl.validation import check_count, check_fraction

Quantity = Literal["labels", "depth", "disparity", "normals", "offsets", "plain"]
"""What a target is, which decides what a zoom and a flip do to its values."""


class Augmentation:
    """Zoom, shift, flip and colour jitter, in that order; every sample has its own draws, out of one generator.

    - **zoom** by s out of `zoom`: a random window of (H / s, W / s) pixels is enlarged to (H, W). The image is
      interpolated bilinearly, all targets take the nearest pixel, so no label, value or validity is blended. Depth
      is divided by s, disparity and instance offsets (in pixels) multiplied by it; normals stay.
    - **shift** by up to `shift` pixels along both axes: the border pixels of the image are repeated, targets there
      are void or invalid.
    - **flip** left-right: the x component of normals and of offsets changes its sign.
    - **colour**: brightness, contrast and saturation, each multiplied by a factor from [1 - x, 1 + x].

    Args:
        zoom: Factors, each >= 1, drawn uniformly; [1.0] for no zoom.
        shift: Pixels, >= 0.
        flip: Probability, in [0, 1].
        brightness: x of the brightness, in [0, 1].
        contrast: x of the contrast, in [0, 1].
        saturation: x of the saturation, in [0, 1].

    **Deviations.** Zoom and flip follow the loader of MTAN and its descendants (CAGrad, Nash-MTL, FAMO, LibMTL):
    factors {1, 1.2, 1.5}, flip 0.5. There: normals are interpolated bilinearly and lose their unit length and blend
    with invalid zeros; the image is resized with aligned corners but labels and depth by floor(i H / h), which are up
    to half a pixel apart; Cityscapes' disparity is divided by s. Ours: nearest for all targets, pixel centres for
    everything, disparity is multiplied (auto-lambda, by MTAN's author, does the same).
    """

    def __init__(
        self,
        zoom: Sequence[float] = (1.0, 1.2, 1.5),
        shift: int = 0,
        flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
    ) -> None:
        if not zoom or not all(isinstance(s, int | float) and not isinstance(s, bool) and 1 <= s <= 8 for s in zoom):
            raise ConfigError(f"Parameter `zoom` should be numbers from 1 to 8. Found `zoom = {zoom!r}`.")
        check_count("shift", shift, minimum=0)
        for name, value in (
            ("flip", flip),
            ("brightness", brightness),
            ("contrast", contrast),
            ("saturation", saturation),
        ):
            check_fraction(name, value)
        self.zoom = tuple(float(s) for s in zoom)
        self.shift = shift
        self.flip = flip
        self.jitter = (brightness, contrast, saturation)

    def bind(
        self,
        quantities: Mapping[str, Quantity],
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> "BoundAugmentation":
        """This augmentation for the targets of one data set.

        Args:
            quantities: Task -> what its target is.
            mean: Of the normalisation that images have gone through.
            std: Of it.
        """
        return BoundAugmentation(self, dict(quantities), tuple(mean), tuple(std))


@dataclass(frozen=True)
class BoundAugmentation:
    """An augmentation that knows what the targets are; callable as (batch, generator) -> batch."""

    options: Augmentation
    quantities: Mapping[str, Quantity]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Draw for every sample, on the CPU so that every device sees the same draws, and apply."""
        count, (height, width) = batch.num_samples, batch.inputs.shape[-2:]
        options, device = self.options, batch.inputs.device
        draws = torch.rand(count, 9, generator=generator, dtype=torch.float64)
        factors = torch.tensor(options.zoom, dtype=torch.float64)[(draws[:, 0] * len(options.zoom)).long()]
        flips = (draws[:, 1] < options.flip).to(device)
        rows = _window(height, factors, draws[:, 2], options.shift, draws[:, 3])
        columns = _window(width, factors, draws[:, 4], options.shift, draws[:, 5])
        inputs = _jitter(batch.inputs, draws[:, 6:9], options.jitter, self.mean, self.std)
        if max(options.zoom) > 1 or options.shift:
            inputs = _bilinear(_bilinear(inputs, rows.to(device), -2), columns.to(device), -1)
        inputs = torch.where(flips.view(-1, 1, 1, 1), inputs.flip(-1), inputs)
        targets = {}
        for task, target in batch.targets.items():
            quantity = self.quantities[task]
            if max(options.zoom) > 1 or options.shift:
                target = zoom_target(target, rows.to(device), columns.to(device), factors.to(device), quantity)
            targets[task] = flip_target(target, flips, quantity)
        return Batch(inputs, targets)


def _window(size: int, factors: Tensor, place: Tensor, shift: int, amount: Tensor) -> Tensor:
    """Source coordinate of every output pixel's centre along one axis, (B, size) float64, in pixels.

    Args:
        size: Pixels of the axis.
        factors: (B,) zoom.
        place: (B,) in [0, 1), where the window lies in its room.
        shift: Largest shift.
        amount: (B,) in [0, 1), which shift.
    """
    window = (size / factors).floor().clamp_min(1)
    start = (place * (size - window + 1)).floor()
    moved = (amount * (2 * shift + 1)).floor() - shift
    ticks = torch.arange(size, dtype=torch.float64) + 0.5
    return start[:, None] + (ticks[None] + moved[:, None]) * window[:, None] / size


def _bilinear(images: Tensor, centres: Tensor, dim: int) -> Tensor:
    """Linear interpolation of (B, C, H, W) along one of the last two axes; the border pixels are repeated."""
    size = images.shape[dim]
    position = (centres - 0.5).clamp(0, size - 1)
    low = position.floor().long().clamp(max=max(size - 2, 0))
    weight = (position - low).to(images.dtype)
    shape = (len(images), 1, -1, 1) if dim == -2 else (len(images), 1, 1, -1)
    grid = list(images.shape)

    def take(index: Tensor) -> Tensor:
        return images.gather(dim, index.view(shape).expand(grid))

    share = weight.view(shape)
    return take(low) * (1 - share) + take((low + 1).clamp(max=size - 1)) * share


def zoom_target(target: Tensor, rows: Tensor, columns: Tensor, factors: Tensor, quantity: Quantity) -> Tensor:
    """The nearest pixel of a target under a zoom, with what the zoom does to its values.

    Args:
        target: (B, H, W) int64, or (B, C + 1, H, W) float32 whose last channel is the validity.
        rows: (B, H) source coordinates of pixel centres; outside of 0..H is void or invalid.
        columns: (B, W) likewise.
        factors: (B,) zoom s.
        quantity: What the target is.
    """
    height, width = target.shape[-2:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    row, column = rows.floor().long().clamp(0, height - 1), columns.floor().long().clamp(0, width - 1)
    index = row[:, :, None] * width + column[:, None, :]
    if target.dim() == 3:
        taken = target.flatten(1).gather(1, index.flatten(1)).view_as(target)
        return taken.masked_fill(~inside, IGNORE)
    channels = target.shape[1]
    taken = target.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1)).view_as(target)
    taken = taken * inside[:, None]
    scale = factors.to(target.dtype).view(-1, 1, 1, 1)
    if quantity == "depth":
        taken[:, :-1] /= scale
    elif quantity in ("disparity", "offsets"):
        taken[:, :-1] *= scale
    return taken


def flip_target(target: Tensor, flips: Tensor, quantity: Quantity) -> Tensor:
    """The mirrored target where `flips` (B,) is true; normals are (x, y, z), offsets (y, x)."""
    flipped = target.flip(-1)
    if quantity in ("normals", "offsets"):
        flipped[:, 0 if quantity == "normals" else 1] *= -1
    return torch.where(flips.view(-1, *[1] * (target.dim() - 1)), flipped, target)


def _jitter(
    images: Tensor, draws: Tensor, amounts: Sequence[float], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Brightness, contrast and saturation of images in [0, 1] before their normalisation."""
    if not any(amounts):
        return images
    factors = 1 + (2 * draws - 1) * torch.tensor(list(amounts), dtype=draws.dtype)
    brightness, contrast, saturation = factors.to(images.device, images.dtype).view(len(images), 3, 1, 1, 1).unbind(1)
    centre, spread = (images.new_tensor(list(numbers)).view(-1, 1, 1) for numbers in (mean, std))
    colours = (images * spread + centre) * brightness
    grey = (colours * colours.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    average = grey.mean((2, 3), keepdim=True)
    colours = (colours.clamp(0, 1) - average) * contrast + average
    grey = (colours * colours.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    colours = (grey + (colours - grey) * saturation).clamp(0, 1)
    return (colours - centre) / spread
