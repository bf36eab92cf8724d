"""Training steps of every strategy on LeNet with two tasks, and of TorchJD and literal loops."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bench import literal, rivals, steps
from bench.problem import LENET
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender

NAME = "lenet"
METHODS = ("mgda", "pcgrad", "cagrad", "aligned_mtl", "upgrad", "nash_mtl")
"""The Gramian methods that have a row on every network."""
BAR, OTHERS_BAR, GHOST_BAR, TORCHJD_BAR = 1.03, 1.10, 1.02, 1.0
TURNS = 3
"""In a round, of the methods that have a row on every network, and of what they are held against."""
REFERENCE = {"gradient": "bare", "features": "uniform", "loss": "uniform", "sequential": "uniform"}
BARS = {"gradient": OTHERS_BAR, "features": 1.15}
LABEL = dict.fromkeys(REFERENCE, "whole step") | {"sequential": "per optimizer step"}


def rows() -> list[Row]:
    """Every strategy against its reference, then the rivals."""
    kinds = sorted(steps.strategies().items(), key=lambda item: (list(REFERENCE).index(item[1]), item[0]))
    found = [Row(NAME, "plain step on the summed loss / bare", "uniform", "bare")]
    for name, kind in kinds:
        bar = BAR if name in METHODS else BARS.get(kind)
        label = f"{name}, {LABEL[kind]} / {REFERENCE[kind]}"
        found.append(Row(NAME, label, f"ours:{name}", REFERENCE[kind], bar))
    found.append(Row(NAME, "mgda, ghost / exact", "ours:mgda gramian=ghost", "ours:mgda", GHOST_BAR))
    for name in ("pcgrad", "mgda", "aligned_mtl"):
        found += [
            Row(NAME, f"{name}, ours / TorchJD", f"ours:{name}", f"torchjd:{name}", TORCHJD_BAR),
            Row(NAME, f"{name}, ours / TorchJD without vmap", f"ours:{name}", f"chunk1:{name}", TORCHJD_BAR),
        ]
    found += [
        Row(NAME, f"{name}, ours / TorchJD", f"ours:{name}", f"scalarized:{name}", TORCHJD_BAR)
        for name in ("uncertainty", "dwa")
    ]
    return found + [
        Row(NAME, f"{name}, ours / literal loop", f"ours:{name}", f"literal:{name}", TORCHJD_BAR)
        for name in ("pcgrad", "mgda")
    ]


def build(name: str) -> Contender:
    """Strategies, TorchJD's and literal ones."""
    kind, _, argument = name.partition(":")
    others: dict[str, Callable[[], Contender]] = {
        "torchjd": partial(rivals.gradient, LENET, argument),
        "chunk1": partial(rivals.gradient, LENET, argument, chunk=1),
        "scalarized": partial(rivals.scalarized, LENET, argument),
        "literal": lambda: literal.METHODS[argument](LENET),
    }
    if kind in others:
        return others[kind]()
    close = name in ("bare", "uniform") or (kind == "ours" and argument in METHODS)
    return replace(steps.build(LENET, name), turns=TURNS if close else 1)


SECTION = Section(
    "LeNet, two tasks, batch 256",
    "`backbone=lenet`, linear heads, random 28x28 images and classes. A turn is four steps; bare, uniform and the six "
    "methods of the other sections have three turns a round. Gradient strategies at the parameters are held against "
    "bare, those at the features or the last shared layer (one backward through the backbone) and the others against "
    "uniform; sequential ones take several optimizer steps a batch, their time is per optimizer step.",
    rows(),
    build,
    limit=54,
    processes=2,
)
