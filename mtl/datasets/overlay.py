"""Composites of two images, the recipe of MultiMNIST, as functions of tensors.

Source: Sener and Koltun 2018, section 4.1 and appendix C.1; released code `loaders/multi_mnist_loader.py`.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.datasets.base import TensorSplit
from mtl.tasks import Accuracy, CrossEntropy, TaskSpec

SIZE = 28
"""Side of an image and of a composite, in pixels."""
CANVAS = 36
OFFSET = 6
"""Row and column of the canvas at which the right image begins."""
SOURCE = tuple((2 * i + 1) * CANVAS // (2 * SIZE) for i in range(SIZE))
"""Row (or column) of the canvas that row i of a composite is taken from: floor((i + 0.5) * 36 / 28)."""
CHUNK = 4096
"""Composites made at once: 5 MB of canvas."""

Rows = npt.NDArray[np.int64]


def overlay(left: Tensor, right: Tensor) -> Tensor:
    """Composites of two images each.

    A canvas of 36x36 zeros takes `left` at (0, 0) and `right` at (6, 6), pixelwise maximum where both have a value,
    then a nearest resize to 28x28 leaves out rows and columns 2, 6, 11, 15, 20, 24, 29, 33 of the canvas.

    Args:
        left: (N, 28, 28) uint8, the top-left images.
        right: (N, 28, 28) uint8, the bottom-right images.

    Returns:
        (N, 28, 28) uint8.

    **Deviations.** Paper: does not name the resize. Released code: `scipy.misc.imresize`, which also stretches every
    image to 0..255 and has left SciPy. Ours: the nearest rule of PIL as in the code's descendants, no stretch.
    """
    canvas = left.new_zeros(len(left), CANVAS, CANVAS)
    canvas[:, :SIZE, :SIZE] = left
    window = canvas[:, OFFSET : OFFSET + SIZE, OFFSET : OFFSET + SIZE]
    torch.maximum(window, right, out=window)
    source = torch.tensor(SOURCE, device=left.device)
    return canvas.index_select(1, source).index_select(2, source)


def compose(left: Tensor, right: Tensor, left_rows: Rows, right_rows: Rows) -> Tensor:
    """Composite i is `overlay` of `left[left_rows[i]]` and `right[right_rows[i]]`, made in chunks.

    Args:
        left: (L, 28, 28) uint8.
        right: (R, 28, 28) uint8.
        left_rows: (N,) in 0..L-1.
        right_rows: (N,) in 0..R-1.

    Returns:
        (N, 28, 28) uint8.
    """
    composites = left.new_empty(len(left_rows), SIZE, SIZE)
    for start in range(0, len(left_rows), CHUNK):
        window = slice(start, start + CHUNK)
        first, second = torch.from_numpy(left_rows[window]), torch.from_numpy(right_rows[window])
        composites[window] = overlay(left[first], right[second])
    return composites


def draw_rows(count: int, high: int, seed: int) -> Rows:
    """`count` independent uniform draws out of 0..high-1, (count,) int64.

    The generator is NumPy's legacy one, whose stream is frozen: the same draws with every version on every machine.

    Args:
        count: Number of draws.
        high: Number of values, >= 1.
        seed: >= 0; its lowest 32 bits count.
    """
    stream = np.random.RandomState(seed % 2**32)
    return stream.randint(high, size=count, dtype=np.int64)


def draw_partners(count: int, seed: int) -> Rows:
    """A partner out of the same `count` images for each of them, (count,) int64.

    Uniform; a partner of the same class and the image itself are allowed, as in the released code.
    """
    return draw_rows(count, count, seed)


def pair_tasks() -> tuple[TaskSpec, TaskSpec]:
    """The tasks "left" (top-left) and "right" (bottom-right): ten classes, cross-entropy, accuracy in percent."""
    left, right = (
        TaskSpec(name, num_outputs=10, kind="classification", loss=CrossEntropy(), metrics={"accuracy": Accuracy})
        for name in ("left", "right")
    )
    return left, right


def pair_split(images: Tensor, left: Tensor, right: Tensor, mean: float, std: float) -> TensorSplit:
    """Composites and their classes as a split.

    Args:
        images: (N, 28, 28) uint8.
        left: (N,) classes of the top-left images.
        right: (N,) classes of the bottom-right images.
        mean: Subtracted after division by 255.
        std: Divided by after that, > 0.

    Returns:
        Inputs (N, 1, 28, 28) float32, targets "left" and "right" (N,) int64.
    """
    inputs = images.unsqueeze(1).to(torch.float32).div_(255).sub_(mean).div_(std)
    return TensorSplit(inputs, {"left": left.long(), "right": right.long()})
