"""Miniatures of raw data sets, in the layouts that users have on disk."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

SIZE = (48, 64)
TRAIN, TEST = 6, 3


def mapping_13() -> np.ndarray:
    """40 -> 13; any table will do as long as it is not monotone."""
    return (np.arange(40) * 7 % 13 + 1).astype(np.uint8)


def frames(count: int = TRAIN + TEST, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Blocky labels, a slanted depth, smooth images; label 894 classes deep, so that every layout can be made of it."""
    stream = np.random.RandomState(seed)
    height, width = SIZE
    made = []
    for _ in range(count):
        blocks = stream.randint(0, 895, (6, 8))
        raw = np.kron(blocks, np.ones((8, 8), int)).astype(np.uint16)
        slope = stream.uniform(0.5, 2, 3)
        rows, columns = np.mgrid[:height, :width]
        depth = (1 + slope[0] + slope[1] * rows / height + slope[2] * columns / width).astype(np.float32)
        image = np.stack([rows * 4, columns * 3, raw % 251], -1).astype(np.uint8)
        made.append({"image": image, "raw": raw, "depth": depth})
    return made


def class_map_40() -> np.ndarray:
    return (np.arange(894) % 40 + 1).astype(np.uint8)


def labels_of(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(13 classes, 40 classes), 0 = void."""
    forty = np.r_[0, class_map_40()][raw]
    return np.r_[0, mapping_13()][forty].astype(np.uint8), forty.astype(np.uint8)


def write_folder(root: Path) -> Path:
    for name in ("rgb", "depth8", "label13", "label40"):
        (root / name).mkdir(parents=True)
    for index, frame in enumerate(frames()):
        thirteen, forty = labels_of(frame["raw"])
        stem = f"{index + 1:04d}"
        Image.fromarray(frame["image"]).save(root / "rgb" / f"{stem}.jpg", quality=95)
        depth = np.round(frame["depth"] * 25.5 - 0.5).astype(np.uint8)
        for name, array in (("depth8", depth), ("label13", thirteen), ("label40", forty)):
            Image.fromarray(array).save(root / name / f"{stem}.png")
    stems = [f"{index + 1:04d}" for index in range(TRAIN + TEST)]
    (root / "train.txt").write_text("\n".join(stems[:TRAIN]) + "\n")
    (root / "test.txt").write_text("\n".join(stems[TRAIN:]) + "\n")
    return root


def write_official(root: Path) -> Path:
    """As MATLAB writes it: the last axis first."""
    root.mkdir(parents=True)
    made = frames()
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([frame["image"] for frame in made], -1).T  # H x W x 3 x N there
        file["depths"] = np.stack([frame["depth"] for frame in made], -1).T
        file["labels"] = np.stack([frame["raw"] for frame in made], -1).T
    order = np.arange(1, len(made) + 1, dtype=np.uint16)[:, None]
    scipy.io.savemat(root / "splits.mat", {"trainNdxs": order[:TRAIN], "testNdxs": order[TRAIN:]})
    scipy.io.savemat(root / "classMapping40.mat", {"mapClass": class_map_40()[None]})
    scipy.io.savemat(root / "class13Mapping.mat", {"classMapping13": {"labels13": mapping_13()[None]}})
    return root


def write_mtan(root: Path) -> Path:
    for position, frame in enumerate(frames()):
        folder, index = ("train", position) if position < TRAIN else ("val", position - TRAIN)
        normal = np.zeros((*SIZE, 3), np.float32)
        normal[:, 2:, 0], normal[:, 2:, 2] = 0.6, -0.8  # two columns invalid
        depth = frame["depth"][:, :, None].copy()
        depth[:3] = 0
        arrays = {
            "image": frame["image"] / 255.0,
            "label": labels_of(frame["raw"])[0].astype(np.float64) - 1,
            "depth": depth,
            "normal": normal,
        }
        for kind, array in arrays.items():
            (root / folder / kind).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / kind / f"{index}.npy", array)
    return root


WRITERS = {"folder": write_folder, "official": write_official, "mtan": write_mtan}
