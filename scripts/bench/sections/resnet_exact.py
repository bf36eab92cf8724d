"""Gramian methods with exact rows on ResNet-18 with 40 tasks, and their peers."""

from bench import literal, rivals, steps
from bench.problem import RESNET
from bench.rows import Row
from bench.section import Section
from bench.sections.lenet import METHODS
from bench.timing import Contender

NAME = "resnet_exact"
BAR, RIVAL_BAR = 1.15, 1.0
RIVAL_TURNS = 1
"""Of TorchJD and the literal loop, six and twenty seconds each."""

ROWS = [
    *(Row(NAME, f"{name}, exact / bare", f"joint:{name}", "bare", BAR) for name in METHODS),
    *(Row(NAME, f"{name}, TorchJD / bare", f"chunk1:{name}", "bare") for name in ("mgda", "pcgrad")),
    *(
        Row(NAME, f"{name}, ours / TorchJD", f"joint:{name}", f"chunk1:{name}", RIVAL_BAR)
        for name in ("mgda", "pcgrad")
    ),
    Row(NAME, "pcgrad, literal loop / bare", "literal:pcgrad", "bare"),
    Row(NAME, "pcgrad, ours / literal loop", "joint:pcgrad", "literal:pcgrad", RIVAL_BAR),
]


def build(name: str) -> Contender:
    """A step a turn."""
    kind, _, argument = name.partition(":")
    if kind == "chunk1":
        rival = rivals.gradient(RESNET, argument, chunk=1, calls=1, most=RIVAL_TURNS)
        rival.turn()  # it takes no part in the warm-up
        return rival
    if kind == "literal":
        return literal.pcgrad(RESNET, calls=1, most=RIVAL_TURNS)
    return steps.build(RESNET, name, calls=1)


SECTION = Section(
    "ResNet-18, 40 tasks, exact Gramian",
    "`backbone=timm backbone.name=resnet18` (the stem with 7x7 convolution and pooling), 64x64 images, batch 16, "
    "40 linear heads, 11.2 million shared parameters. A turn is one step. The methods "
    "train one network and share the rows, which take 1.8 GB. TorchJD without vmap, which is its "
    "faster way here and the one that fits into memory; the literal loop is PCGrad over tensors in Python; "
    "both are measured once.",
    ROWS,
    build,
    limit=75,
    rounds=8,
    warmup=1,
)
