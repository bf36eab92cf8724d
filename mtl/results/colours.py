"""Dense targets and predictions as RGB maps for people."""

import colorsys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.tasks.targets import IGNORE, match_logits

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3)."""
Array = npt.NDArray[Any]
Kind = Literal["classes", "binary", "scalar", "normals", "offsets"]

PALETTE = (
    *("#0044AA", "#882244", "#CCEEEE", "#AA4400", "#AAAA44", "#8866AA", "#EEEE66"),
    *("#660066", "#0088EE", "#662200", "#44AA66", "#CCEEAA", "#CCAAEE"),
)
"""Thirteen colours at least 22 apart (CIE 1976 Lab), from each other and from VOID, also without red or green cones."""
VOID = "#969696"
"""Pixels without ground truth."""
UNITS = {"depth": "m", "disparity": "px"}
"""Task -> unit of its values; no unit for others."""


@dataclass(frozen=True)
class DenseTask:
    """How a dense task is shown.

    Attributes:
        name: Its name.
        kind: `classes` (more than two), `binary`, `scalar`, `normals` or `offsets`.
        classes: Names of the classes for `classes`; empty for others.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name for people, with the unit if there is one."""
        unit = f" ({UNITS[self.name]})" if self.name in UNITS else ""
        return self.name.replace("_", " ") + unit


class Map(NamedTuple):
    """One sample of one task: values (H, W), or (C, H, W) for normals and offsets, and where they are valid (H, W)."""

    values: Array
    valid: npt.NDArray[np.bool_]


def true_map(task: DenseTask, target: Tensor) -> Map:
    """From the target of one sample: (H, W) int64, or (C + 1, H, W) whose last channel is the validity."""
    if task.kind in ("classes", "binary"):
        return Map(target.numpy(), (target != IGNORE).numpy())
    values = target[0] if task.kind == "scalar" else target[:-1]
    return Map(values.numpy(), (target[-1] > 0.5).numpy())


def predicted_map(task: DenseTask, prediction: Tensor) -> Map:
    """From the outputs (C, H, W) of one sample: the most likely class, the yes above one half, the unit vector.

    Valid is where the outputs are finite.
    """
    valid = prediction.isfinite().all(dim=0)
    if task.kind == "classes":
        values = prediction.argmax(dim=0)
    elif task.kind == "binary":
        blank = torch.zeros((1, *prediction.shape[1:]), dtype=torch.int64)
        values = (match_logits(prediction[None], blank)[0] > 0).long()
    elif task.kind == "normals":
        values = prediction / torch.linalg.vector_norm(prediction, dim=0).clamp_min(1e-12)
    else:
        values = prediction[0] if task.kind == "scalar" else prediction
    return Map(values.numpy(), valid.numpy())


def value_range(task: DenseTask, truth: Map) -> tuple[float, float]:
    """What the colours of a sample span: the true values of a scalar, 0 to the longest true offset, else 0 to 1."""
    if task.kind not in ("scalar", "offsets") or not truth.valid.any():
        return 0.0, 1.0
    if task.kind == "offsets":
        return 0.0, max(float(np.hypot(*truth.values)[truth.valid].max()), 1e-6)
    low, high = float(truth.values[truth.valid].min()), float(truth.values[truth.valid].max())
    return (low, high) if high > low else (low, low + 1.0)


def paint(task: DenseTask, shown: Map, span: tuple[float, float]) -> Rgb:
    """A map in colours; what is not valid is grey.

    Args:
        task: How.
        shown: What.
        span: Values of the first and the last colour, those beyond have the same: `value_range` of the sample.

    Returns:
        (H, W, 3). Normals n in camera axes (x right, y down, z forward) are (1 + (x, -y, -z)) / 2, so that what faces
        the camera is blue. Of offsets, the hue is the direction and the saturation the length.
    """
    low, high = span
    painted: Array
    if task.kind == "classes":
        colours = np.stack([rgb(colour) for colour in palette(len(task.classes))])
        painted = colours[np.where(shown.valid, shown.values, 0)]
    elif task.kind == "binary":
        painted = np.repeat(np.where(shown.values == 1, 0, 255)[..., None], 3, axis=-1)
    elif task.kind == "normals":
        x, y, z = np.where(shown.valid, shown.values, 0)
        painted = np.stack([1 + x, 1 - y, 1 - z], axis=-1) * 127.5
    elif task.kind == "scalar":
        painted = _color_map()(np.clip((np.where(shown.valid, shown.values, low) - low) / (high - low), 0, 1))
        painted = painted[..., :3] * 255
    else:
        painted = _direction_colours(np.where(shown.valid, shown.values, 0), high) * 255
    return np.where(shown.valid[..., None], np.rint(painted), rgb(VOID)).astype(np.uint8)


def palette(count: int) -> tuple[str, ...]:
    """Hex colours of `count` classes. Those beyond `PALETTE` are spread hues, which are not all easy to tell apart."""
    more = []
    for index in range(count - len(PALETTE)):
        lightness, saturation = (0.35, 0.6, 0.8)[index % 3], (0.9, 0.6)[index // 3 % 2]
        red, green, blue = colorsys.hls_to_rgb(index * 0.618034 % 1, lightness, saturation)
        more.append(f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}")
    return (*PALETTE[:count], *more)


def rgb(colour: str) -> Rgb:
    """(3,) of `#RRGGBB`."""
    return np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8)


def _color_map() -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"]


def _direction_colours(offsets: Array, longest: float) -> Array:
    from matplotlib.colors import hsv_to_rgb

    y, x = offsets
    hue = np.arctan2(y, x) / (2 * np.pi) % 1
    length = np.clip(np.hypot(y, x) / longest, 0, 1)
    colours: Array = hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], axis=-1))
    return colours
