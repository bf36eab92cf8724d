"""Gramian methods without rows on ResNet-18 with 40 tasks."""

from functools import partial

from bench import steps
from bench.problem import RESNET
from bench.rows import Row
from bench.section import Section
from bench.sections.lenet import METHODS

NAME = "resnet_ghost"
BAR, EXACT_BAR = 0.70, 1.02

SECTION = Section(
    "ResNet-18, 40 tasks, ghost Gramian",
    "The same network with `strategy.gramian=ghost`.",
    [
        *(Row(NAME, f"{name}, ghost / bare", f"ours:{name} gramian=ghost", "bare", BAR) for name in METHODS),
        Row(NAME, "mgda, ghost / exact", "ours:mgda gramian=ghost", "ours:mgda", EXACT_BAR),
    ],
    partial(steps.build, RESNET, calls=1),
    limit=60,
    rounds=8,
    warmup=1,
)
