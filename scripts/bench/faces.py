"""Random images in CelebA's official layout, prepared, and a data set that reads the single files."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bench.place import place
from bench.problem import compose
from mtl.datasets.prepare import prepare
from mtl.datasets.sources.celeba import ATTRIBUTES, OfficialCelebA
from mtl.training.spec import RunSpec

FRAME, SIZE = (218, 178), (64, 64)
COUNTS = {"train": 512, "val": 2, "test": 2}
OVERRIDES = ("dataset=celeba", "dataset.batch_size=64", "backbone=celeba_cnn", "heads=linear")


@cache
def raw() -> Path:
    """Smooth random images as JPEG, and the two lists."""
    from PIL import Image

    root, stream = place("faces") / "raw", np.random.default_rng(0)
    folder = root / "Img" / "img_align_celeba"
    for directory in (folder, root / "Anno", root / "Eval"):
        directory.mkdir(parents=True)
    names = [f"{index + 1:06d}.jpg" for index in range(sum(COUNTS.values()))]
    for name in names:
        coarse = Image.fromarray(stream.integers(0, 256, (14, 11, 3), dtype=np.uint8))
        coarse.resize(FRAME[::-1], Image.Resampling.BICUBIC).save(folder / name, quality=92)
    lines = [f"{name} " + " ".join(map(str, stream.choice((-1, 1), len(ATTRIBUTES)))) for name in names]
    text = "\n".join([str(len(names)), " ".join(ATTRIBUTES), *lines, ""])
    (root / "Anno" / "list_attr_celeba.txt").write_text(text, encoding="utf-8")
    splits = [str(number) for number, count in enumerate(COUNTS.values()) for _ in range(count)]
    text = "".join(f"{name} {split}\n" for name, split in zip(names, splits, strict=True))
    (root / "Eval" / "list_eval_partition.txt").write_text(text, encoding="utf-8")
    return root


class JpegFaces(Dataset[dict[str, Tensor]]):
    """A sample is one file, decoded, resized and converted when it is asked for."""

    def __init__(self) -> None:
        from torchvision import transforms

        source = OfficialCelebA(raw(), SIZE)
        self.paths = [source.path("train", index) for index in range(COUNTS["train"])]
        self.attributes = [torch.from_numpy(source.attributes[path.name]).float() for path in self.paths]
        self.transform = transforms.Compose([transforms.Resize(SIZE), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return {"image": self.transform(image.convert("RGB")), "attributes": self.attributes[index]}


def spec_of() -> RunSpec:
    """The parts of a run on the prepared images."""
    out = place("faces") / "prepared"
    if not out.exists():
        prepare(OfficialCelebA(raw(), SIZE), "celeba", out, lambda *_: None)
    return compose([*OVERRIDES, f"dataset.prepared={out}"])
