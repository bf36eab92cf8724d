"""Peak memory, each contender in a process of its own."""

from functools import cache, partial

import torch

from bench import literal, rivals, steps
from bench.memory import check_memory, highest
from bench.problem import RESNET, UNET, Problem
from bench.rows import Row
from bench.section import Section, apart
from bench.timing import Contender

NAME = "memory"
SETTINGS = {"resnet": RESNET, "unet": UNET}
TURNS, LITERAL_TURNS = 2, 1
"""Steps before the peak is read: the second has all optimizer states. The literal loop, slow, has them at once."""


def peak(key: str, name: str, threads: int) -> int:
    """Of a step of a setting; see `highest`."""
    setting = SETTINGS[key]
    kind, _, argument = name.partition(":")
    others = {
        "torchjd": partial(rivals.gradient, setting, argument, chunk=1, calls=1),
        "literal": lambda: literal.METHODS[argument](setting, calls=1),
    }
    turns = LITERAL_TURNS if kind == "literal" else TURNS
    return highest(others.get(kind, partial(steps.build, setting, name, calls=1)), turns, threads)


@cache
def _plain(key: str) -> int:
    """Model with its optimizer's state, activations, and one gradient of every parameter."""
    found = apart(peak, key, "uniform", torch.get_num_threads())
    assert isinstance(found, int)
    return found


@cache
def _sizes(key: str) -> tuple[int, int]:
    """(m, n)."""
    found = Problem(SETTINGS[key])
    return len(found.heads), sum(p.numel() for p in found.shared)


def build(name: str) -> Contender:
    """`peak SETTING STEP`, `beyond SETTING STEP` (a plain step), `floats SETTING A B` (plain step + A m n + B n)."""
    kind, key, rest = name.split(maxsplit=2)
    check_memory()
    if kind in ("floats", "parts"):
        m, n = _sizes(key)
        matrices, vectors = (int(number) for number in rest.split())
        expected = 4 * (m * n * matrices + n * vectors)
        return Contender(lambda: expected + (_plain(key) if kind == "floats" else 0))
    subtract = kind == "beyond"
    threads = torch.get_num_threads()
    return Contender(lambda: apart(peak, key, rest, threads) - (_plain(key) if subtract else 0))


def _row(name: str, above: str, below: str, bar: float | None = None) -> Row:
    return Row(NAME, name, above, below, bar, "bytes")


EXACT = "peak resnet ours:mgda"
ROWS = [
    _row("ResNet-18: mgda, exact / plain step + m n + n floats", EXACT, "floats resnet 1 1", 1.05),
    _row("ResNet-18: mgda, exact / TorchJD", EXACT, "peak resnet torchjd:mgda", 1.0),
    _row("ResNet-18: mgda, exact / literal loop", EXACT, "peak resnet literal:mgda", 1.05),
    _row(
        "ResNet-18: mgda, ghost beyond a plain step / m n floats",
        "beyond resnet ours:mgda gramian=ghost",
        "parts resnet 1 0",
        0.2,
    ),
    _row("ResNet-18: mao beyond a plain step / 2 m n floats", "beyond resnet ours:mao", "parts resnet 2 0", 1.05),
    _row("small U-Net: mgda, exact / plain step + m n + n floats", "peak unet ours:mgda", "floats unet 1 1", 1.05),
    _row("small U-Net: mgda, exact / bare", "peak unet ours:mgda", "peak unet bare"),
    _row("small U-Net: mgda, exact / TorchJD", "peak unet ours:mgda", "peak unet torchjd:mgda", 1.0),
]

SECTION = Section(
    "Peak memory",
    "Largest resident memory while a process builds the network and makes two steps (the literal loop one), beyond "
    "what it held after its imports. Every contender in a process of its own, in which freed memory goes back to the "
    "system at once. The plain step is `uniform` above: model, Adam's state, activations, a gradient of every "
    "parameter; measured once. Bare has no optimizer.",
    ROWS,
    build,
    limit=50,
    rounds=2,
    least=1,
    warmup=0,
)
