"""Sequential strategies against the same passes by hand."""

from bench import steps
from bench.problem import LENET, UNET
from bench.rows import Row
from bench.section import Section
from bench.timing import Contender

NAME = "sequential"
SETTINGS = {"lenet": LENET, "unet": UNET}
METHODS = ("igd", "igd_per_task", "random_groups")
BAR = 1.02

ROWS = [
    Row(
        NAME,
        f"{setting.name}: {name}, per optimizer step / by hand",
        f"{key} ours:{name}",
        f"{key} substeps:{name}",
        BAR,
    )
    for key, setting in SETTINGS.items()
    for name in METHODS
]


def build(name: str) -> Contender:
    """`lenet` or `unet`, then the step."""
    key, _, rest = name.partition(" ")
    return steps.build(SETTINGS[key], rest, calls=16 if key == "lenet" else 1)


SECTION = Section(
    "Sequential strategies",
    "Per optimizer step, against the same groups by hand: forward, backward of the group's summed loss, fused "
    "Adam (one optimizer, or one per task).",
    ROWS,
    build,
    limit=26,
    rounds=26,
    processes=2,
)
