"""Frames of random pixels: raw in MTAN's layout, and prepared; and a data set of single files over the raw ones."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from bench.place import place
from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.datasets.prepare import prepare
from mtl.datasets.sources.nyuv2_mtan import MtanNYUv2
from mtl.training.spec import RunSpec

SIZE, FRAMES = (288, 384), {"train": 48, "val": 2}
"""As in MTAN's files, but for the number of frames."""
TRAINING = ("dataset=nyuv2_small",)
READING = {
    "nyuv2": ("dataset=nyuv2", "dataset.augmentation=null", "dataset.batch_size=2"),
    "nyuv2_small": ("dataset=nyuv2_small", "dataset.augmentation=null"),
}
"""At the size of the files, and at a training resolution below it."""
NETWORK = ("backbone=unet_small", "heads=conv", "strategy=uniform", "dataset.val_size=0", "trainer.device=cpu")
TARGETS = {"label": "segmentation", "depth": "depth", "normal": "normals"}


@cache
def raw() -> Path:
    """Frames of random pixels in MTAN's layout, float32."""
    root, stream = place("frames") / "raw", np.random.default_rng(0)
    for split, count in FRAMES.items():
        for kind in ("image", *TARGETS):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            normal = stream.normal(size=(*SIZE, 3)).astype(np.float32)
            arrays = {
                "image": stream.random((*SIZE, 3), np.float32),
                "label": stream.integers(-1, 13, SIZE).astype(np.float32),
                "depth": stream.random((*SIZE, 1), np.float32) + 1,
                "normal": normal / np.linalg.norm(normal, axis=-1, keepdims=True),
            }
            for kind, array in arrays.items():
                np.save(root / split / kind / f"{index}.npy", array)
    return root


class NpyFrames(Dataset[dict[str, Tensor]]):
    """A frame is four files, read when it is asked for; channels first, float32, as published loaders give them.

    Args:
        size: (H, W) that a frame is resized to.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __len__(self) -> int:
        return FRAMES["train"]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        arrays = {kind: np.load(raw() / "train" / kind / f"{index}.npy") for kind in ("image", *TARGETS)}
        return {kind: self._resized(kind, torch.from_numpy(array).float()) for kind, array in arrays.items()}

    def _resized(self, kind: str, frame: Tensor) -> Tensor:
        frame = frame[None] if frame.ndim == 2 else frame.movedim(-1, 0)
        if self.size == SIZE:
            return frame
        if kind == "image":
            return functional.interpolate(frame[None], self.size, mode="bilinear", antialias=True)[0]
        return functional.interpolate(frame[None], self.size, mode="nearest-exact")[0]


def spec_of(overrides: tuple[str, ...]) -> RunSpec:
    """The parts of a run on the frames, prepared at the size that it asks for."""
    height, width = build_spec(*compose_config([*overrides, *NETWORK])).data.input_shape[1:]
    out = place("frames") / f"prepared-{height}x{width}"
    if not out.exists():
        prepare(MtanNYUv2(raw(), (height, width)), "nyuv2", out, lambda *_: None)
    return build_spec(*compose_config([*overrides, *NETWORK, f"dataset.prepared={out}"]))
