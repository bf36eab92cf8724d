"""Miniature of Cityscapes in the official layout and in MTAN's: drawn streets whose colours tell the classes."""

from pathlib import Path

import numpy as np
from PIL import Image

FRAME = (64, 128)
TRAIN, TEST = 12, 4
CITIES = {"train": ("zurich", "aachen", "ulm"), "val": ("munster", "frankfurt")}
COLOURS = {
    1: (20, 20, 20),
    7: (128, 64, 128),
    8: (244, 35, 232),
    9: (250, 170, 160),
    11: (70, 70, 70),
    17: (200, 200, 150),
    21: (40, 160, 40),
    23: (70, 130, 220),
    24: (230, 20, 60),
    26: (20, 20, 200),
    29: (0, 60, 120),
}
"""Label id -> colour."""


def street(seed: int) -> dict[str, np.ndarray]:
    """One frame: image, official label ids, instance ids and 16-bit disparity."""
    stream = np.random.RandomState(seed)
    height, width = FRAME
    horizon = stream.randint(24, 32)
    labels = np.full(FRAME, 23, np.int64)
    labels[8:horizon, : width // 2 + stream.randint(-20, 20)] = 11
    labels[12:horizon, width - 40 :] = 21
    labels[horizon:] = 7
    labels[horizon:, :20] = 8
    labels[horizon : horizon + 6, -20:] = 9  # parking: a category, but not evaluated
    labels[-4:] = 1  # ego vehicle: void
    rows = np.arange(height)[:, None] * np.ones((1, width))
    disparity = 2 + np.clip(rows - horizon, 0, None) * 0.8
    instances = labels.copy()
    labels[6:horizon, 60:63] = instances[6:horizon, 60:63] = 17
    disparity[6:horizon, 60:63] = 6
    objects = ((26, 1, 10, 16), (26, 2, 10, 16), (24, 1, 14, 5), (29, 1, 8, 12), (26, None, 6, 20))
    for label, number, tall, wide in objects:
        top, left = horizon - tall // 2 + stream.randint(0, 12), stream.randint(0, width - wide)
        box = (slice(top, top + tall), slice(left, left + wide))
        labels[box] = label
        instances[box] = label if number is None else label * 1000 + number  # a group has no number
        disparity[box] = 2 + (top + tall - horizon) * 0.8
    noise = stream.randint(-12, 13, (*FRAME, 3))
    image = np.clip(np.array([COLOURS[label] for label in labels.flat]).reshape(*FRAME, 3) + noise, 0, 255)
    raw = np.round(disparity * 256 + 1)
    raw[:, :4] = 0  # nothing to match at the left border
    return {
        "image": image.astype(np.uint8),
        "labels": labels.astype(np.uint8),
        "instances": instances.astype(np.uint16),
        "disparity": raw.astype(np.uint16),
    }


def frames() -> dict[str, list[tuple[str, str, dict[str, np.ndarray]]]]:
    """Official split -> (city, stem, frame), in the order of names."""
    made = {}
    for split, count, first in (("train", TRAIN, 0), ("val", TEST, 100)):
        listed = [(city, index) for index in range(count) for city in [CITIES[split][index % len(CITIES[split])]]]
        stems = sorted((city, f"{city}_{index:06d}_000019", first + index) for city, index in listed)
        made[split] = [(city, stem, street(seed)) for city, stem, seed in stems]
    return made


def write_official(root: Path) -> Path:
    """Also with files that are in the official archives and not read."""
    ends = {
        "image": ("leftImg8bit", "leftImg8bit"),
        "labels": ("gtFine", "gtFine_labelIds"),
        "instances": ("gtFine", "gtFine_instanceIds"),
        "disparity": ("disparity", "disparity"),
    }
    for split, listed in reversed(frames().items()):
        for city, stem, frame in reversed(listed):
            for kind, (tree, end) in ends.items():
                (root / tree / split / city).mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame[kind]).save(root / tree / split / city / f"{stem}_{end}.png")
            (root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")
            Image.fromarray(frame["image"]).save(root / "gtFine" / split / city / f"{stem}_gtFine_color.png")
    (root / "leftImg8bit" / "test" / "berlin").mkdir(parents=True)
    return root


def write_mtan(root: Path, labels: tuple[str, ...] = ("label_7", "label_19", "label_2")) -> Path:
    bounds = [(7, 10, 0), (11, 16, 1), (17, 20, 2), (21, 22, 3), (23, 23, 4), (24, 25, 5), (26, 33, 6)]
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    for split, listed in frames().items():
        for index, (_, _, frame) in enumerate(listed):
            ids = frame["labels"]
            seven, nineteen = np.full(FRAME, -1.0), np.full(FRAME, -1.0)
            for low, high, number in bounds:
                seven[(ids >= low) & (ids <= high)] = number
            for number, label in enumerate(evaluated):
                nineteen[ids == label] = number
            arrays = {
                "image": frame["image"] / 255.0,
                "depth": (frame["disparity"] / 65535).astype(np.float32)[..., None],
            }
            for folder in labels:
                arrays[folder] = {"label_19": nineteen, "label_2": np.minimum(seven, 1)}.get(folder, seven)
            for kind, array in arrays.items():
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                np.save(root / split / kind / f"{index}.npy", array)
    return root


WRITERS = {"official": write_official, "mtan": write_mtan}
