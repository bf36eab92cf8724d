"""Reading and resizing of image files, with errors that name the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtl.errors import DataError

Array = npt.NDArray[Any]
RGB = ("RGB",)
LABELS = ("L", "P")
"""8 bits a pixel; with a palette the index is the label."""


def read_image(path: Path, modes: Sequence[str], remedy: str) -> Array:
    """The pixels of a PNG, JPEG or TIFF file.

    Args:
        path: The file.
        modes: Legal modes in Pillow's names: `RGB`, `L` (8 bits), `P` (palette index), `I;16`.
        remedy: What to do about a bad file, for messages.

    Returns:
        (H, W) or (H, W, 3), as stored.

    Raises:
        DataError: the file is missing, truncated, no image, or of another mode.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, pixels = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise DataError(f"`{path}` is missing. {remedy}") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"`{path}` is truncated or no image: {error}. {remedy}") from error
    if mode not in modes:
        raise DataError(f"`{path}` should be an image of mode {' or '.join(modes)}. Found mode {mode}. {remedy}")
    return pixels


def check_same_size(path: Path, array: Array, size: tuple[int, int], remedy: str) -> None:
    """Raise DataError unless `array` (H, W, ...) has the height and width `size`."""
    if array.shape[:2] != size:
        raise DataError(
            f"`{path}` should have {size[0]}x{size[1]} pixels (height x width), as the other files of the set. Found "
            f"{array.shape[0]}x{array.shape[1]}. {remedy}"
        )


def resize_image(image: Array, size: tuple[int, int]) -> Array:
    """Bilinear with anti-aliasing (Pillow's rule), (H, W, 3) uint8 to (size, 3) uint8; unchanged at its own size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_nearest(array: Array, size: tuple[int, int]) -> Array:
    """The pixel whose area holds the centre of the new one: row floor((i + 0.5) * H / h); (H, W, ...) to (size, ...).

    Never blends, so it is right for labels and for values with invalid ones among them.
    """
    rows, columns = (
        ((2 * np.arange(new) + 1) * old // (2 * new)).astype(np.int64)
        for new, old in zip(size, array.shape[:2], strict=True)
    )
    taken: Array = array[rows[:, None], columns]
    return taken
