"""Gradient strategies on small dense networks with the three tasks of NYUv2."""

from functools import partial

from bench import rivals, steps
from bench.problem import SEGNET, UNET
from bench.rows import Row
from bench.section import Section
from bench.sections.lenet import METHODS
from bench.timing import Contender

NAME = "dense"
SETTINGS = {"unet": UNET, "segnet": SEGNET}
BAR, GHOST_BAR, TORCHJD_BAR = 1.05, 1.02, 1.0


def rows() -> list[Row]:
    """Of one network after the other."""
    found = []
    for key, setting in SETTINGS.items():
        found.append(Row(NAME, f"{setting.name}: plain step / bare", f"{key} uniform", f"{key} bare"))
        found += [
            Row(NAME, f"{setting.name}: {name}, exact / bare", f"{key} ours:{name}", f"{key} bare", BAR)
            for name in METHODS
        ]
        ghost = f"{key} ours:mgda gramian=ghost"
        found.append(Row(NAME, f"{setting.name}: mgda, ghost / exact", ghost, f"{key} ours:mgda", GHOST_BAR))
        found += [
            Row(NAME, f"{setting.name}: {name}, ours / TorchJD", f"{key} ours:{name}", f"{key} {kind}", TORCHJD_BAR)
            for name, kind in (("pcgrad", "torchjd:pcgrad"), ("mgda", "torchjd:mgda"))
        ]
    return found


def build(name: str) -> Contender:
    """`unet` or `segnet`, then the step."""
    key, _, rest = name.partition(" ")
    kind, _, argument = rest.partition(":")
    others = {"torchjd": partial(rivals.gradient, SETTINGS[key], argument, calls=1)}
    return others[kind]() if kind in others else steps.build(SETTINGS[key], rest, calls=1)


SECTION = Section(
    "Small U-Net and SegNet, three tasks of NYUv2",
    "`dataset=nyuv2_small` (96x128, batch 8), `heads=conv`, `backbone=unet_small` and `segnet_small`, random "
    "images and targets in the shapes of the data set. A turn is one step.",
    rows(),
    build,
    limit=42,
    warmup=1,
)
