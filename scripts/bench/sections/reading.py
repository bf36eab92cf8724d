"""Reading prepared data sets, against single files in a DataLoader, a copy in memory, and a training step."""

import itertools

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench import faces, frames
from bench.rows import Row
from bench.section import Section
from bench.sections.loader import copied, steady
from bench.timing import Contender, timed
from mtl.datasets.base import Batch, Loader
from mtl.models import build_model
from mtl.objective import MultiTaskObjective
from mtl.seeding import derive_seed
from mtl.training.spec import RunSpec

NAME = "reading"
BAR, COPY_BAR, SHARE = 10.0, 1.3, 0.05
WARM, TIMED = 2, 4
"""Batches of an epoch of the DataLoader: read before the clock starts (start of workers, first fetches), and timed."""
EPOCHS = 5
"""Of packed data and of copies in a turn: one takes a few milliseconds."""
SETS = {"nyuv2_small": "nyuv2_small at 96x128", "nyuv2": "nyuv2 at 288x384", "celeba": "celeba at 64x64"}


def _spec(data: str) -> RunSpec:
    return faces.spec_of() if data == "celeba" else frames.spec_of(frames.READING[data])


def _files(data: str) -> Dataset[dict[str, Tensor]]:
    if data == "celeba":
        return faces.JpegFaces()
    height, width = _spec(data).data.input_shape[1:]
    return frames.NpyFrames((height, width))


def files(data: str, workers: int) -> Contender:
    """The single files through torch's DataLoader."""
    loader = DataLoader(_files(data), _spec(data).data.batch_size, shuffle=True, num_workers=workers)
    return steady(loader, lambda batch: len(batch["image"]), WARM, TIMED)


def packed(data: str) -> Contender:
    """Shuffled epochs of Loader over the same samples, as the losses read them."""
    loader, epochs = _loader(_spec(data)), itertools.count()
    return timed(lambda: sum(batch.num_samples for batch in loader.batches(next(epochs))), calls=EPOCHS)


def copies(data: str) -> Contender:
    """The batches of an epoch, copied again and again from memory to memory."""
    found = list(_loader(_spec(data)).batches(0))
    return timed(lambda: sum(copied(batch) for batch in found), calls=EPOCHS)


def batches() -> Contender:
    """One shuffled epoch of Loader with augmentation, in batches."""
    loader, epochs = _loader(frames.spec_of(frames.TRAINING)), itertools.count()
    return timed(lambda: sum(1 for _ in loader.batches(next(epochs))), calls=1)


def step() -> Contender:
    """A training step on summed losses with a batch that is there already."""
    spec = frames.spec_of(frames.TRAINING)
    model = build_model(spec.backbone, spec.head, spec.data.tasks, spec.data.input_shape, spec.seed)
    objective = MultiTaskObjective(model, spec.data.tasks, spec.data.input_shape)
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, "strategy"))
    spec.strategy.setup(objective, spec.make_optimizer, generator)
    batch: Batch = next(_loader(spec).batches(0))

    def run() -> int:
        spec.strategy.step(batch)
        return 1

    return timed(run, calls=2)


def _loader(spec: RunSpec) -> Loader:
    return Loader(spec.data.load()["train"], spec.data.batch_size, shuffle=True, drop_last=False)


def rows() -> list[Row]:
    """Each data set against its files and a copy; then augmentation against a step."""
    found = []
    for data, label in SETS.items():
        loaders = (f"files:{data}:0", f"files:{data}:2")
        found += [
            Row(NAME, f"{label}, packed / files in the fastest DataLoader", f"packed:{data}", loaders, BAR, "speedup"),
            Row(NAME, f"{label}, packed / copy of the same batches", f"packed:{data}", f"copies:{data}", COPY_BAR),
        ]
    label = "nyuv2_small, Loader with augmentation / step of unet_small, per batch"
    return [*found, Row(NAME, label, "batches", "step", SHARE)]


def build(name: str) -> Contender:
    """`files:SET:WORKERS`, `packed:SET`, `copies:SET`, `batches` or `step`."""
    kind, _, argument = name.partition(":")
    data, _, workers = argument.partition(":")
    return {
        "files": lambda: files(data, int(workers)),
        "packed": lambda: packed(data),
        "copies": lambda: copies(data),
        "batches": batches,
        "step": step,
    }[kind]()


SECTION = Section(
    "Reading prepared data",
    "Shuffled batches of the size in `configs/dataset`, everything in the page cache. nyuv2: 48 frames of random "
    "pixels; packed, the frames prepared at that size, image and three targets as the losses read them; files, "
    "MTAN's layout, four .npy files in float32 at 288x384 a frame, resized where the size is another. celeba: 512 "
    "images of 218x178 in the official layout; files, JPEG through PIL, `Resize` and `ToTensor`. 0 and 2 "
    "workers, the faster one counts. Copy: the tensors of the same batches, cloned. Step: `Strategy.step` of "
    "`uniform`, `backbone=unet_small heads=conv`.",
    rows(),
    build,
    limit=24,
    rounds=8,
)
