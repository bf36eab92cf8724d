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
        flips = draws[:, 1] < options.flip
        inputs = _jitter(batch.inputs, draws[:, 6:9], options.jitter, self.mean, self.std)
        if max(options.zoom) == 1 and not options.shift and not options.flip:
            return Batch(inputs, batch.targets)
        rows = _window(height, factors, draws[:, 2], options.shift, draws[:, 3])
        columns = _window(width, factors, draws[:, 4], options.shift, draws[:, 5])
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        inputs = _bilinear(_bilinear(inputs, rows, -2), columns, -1)
        targets = {
            task: move_target(target, rows, columns, factors.to(device), flips.to(device), self.quantities[task])
            for task, target in batch.targets.items()
        }
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


def _take(maps: Tensor, index: Tensor, dim: int) -> Tensor:
    """Entries `index` (B, n) of (B, C, H, W) along one of the last two axes, for every sample its own.

    Rows are taken whole: on a CPU that is ten times as fast as `gather`, which goes pixel by pixel.
    """
    index = index.to(maps.device)
    count, channels, height, width = maps.shape
    if dim == -1:
        return maps.gather(3, index.view(count, 1, 1, -1).expand(-1, channels, height, -1))
    first = torch.arange(count * channels, device=maps.device).view(count, channels, 1) * height
    return maps.reshape(-1, width).index_select(0, (first + index[:, None]).flatten()).view_as(maps)


def _along(numbers: Tensor, dim: int) -> Tensor:
    """(B, n) so that it goes along one of the last two axes of (B, C, H, W)."""
    return numbers.view((len(numbers), 1, -1, 1) if dim == -2 else (len(numbers), 1, 1, -1))


def _bilinear(images: Tensor, centres: Tensor, dim: int) -> Tensor:
    """Linear interpolation of (B, C, H, W) along one of the last two axes; the border pixels are repeated."""
    last = images.shape[dim] - 1
    position = (centres - 0.5).clamp(0, last)
    low = position.floor().long()
    share = _along((position - low).to(images.dtype), dim)
    taken = _take(images, low, dim)
    if not share.any():
        return taken
    share = share.to(images.device)
    return taken.mul_(1 - share).add_(_take(images, (low + 1).clamp(max=last), dim).mul_(share))


def move_target(
    target: Tensor, rows: Tensor, columns: Tensor, factors: Tensor, flips: Tensor, quantity: Quantity
) -> Tensor:
    """The nearest pixel of a target under a zoom and a flip, with what they do to its values.

    Args:
        target: (B, H, W) int64, or (B, C + 1, H, W) float32 whose last channel is the validity.
        rows: (B, H) source coordinates of pixel centres; outside of 0..H is void or invalid.
        columns: (B, W) likewise.
        factors: (B,) zoom s.
        flips: (B,) where `columns` run backwards.
        quantity: What the target is; normals are (x, y, z), offsets (y, x).
    """
    taken = target if target.dim() == 4 else target.unsqueeze(1)
    for centres, dim in ((rows, -2), (columns, -1)):
        size = taken.shape[dim]
        taken = _take(taken, centres.floor().long().clamp(0, size - 1), dim)
        outside = (centres < 0) | (centres >= size)
        if outside.any():
            taken.masked_fill_(_along(outside, dim).to(taken.device), IGNORE if target.dim() == 3 else 0)
    if target.dim() == 3:
        return taken.squeeze(1)
    scale = factors.to(target.dtype).view(-1, 1, 1, 1)
    if quantity == "depth":
        taken[:, :-1] /= scale
    elif quantity in ("disparity", "offsets"):
        taken[:, :-1] *= scale
    if quantity in ("normals", "offsets"):
        taken[:, 0 if quantity == "normals" else 1] *= (1 - 2 * flips.to(target.dtype)).view(-1, 1, 1)
    return taken


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
