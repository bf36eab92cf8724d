"""What is compared with what: rows as data, and the contenders that they name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from bench import diagnostics, literal, loaders, rivals, scenes, solvers, steps
from bench.timing import Contender, Spread


@dataclass(frozen=True)
class Row:
    """One comparison: time of `numerator` over time of `denominator`, per unit of work.

    Attributes:
        section: `steps`, `torchjd`, `literal`, `solver`, `vectors`, `loader`, `reading`, `scenes` or `diagnostics`.
        name: For the reader.
        numerator: Contender.
        denominator: Contender; several names for the fastest of them; none where the time itself has a bar.
        bar: The ratio (without a denominator: the seconds) should be at most this, or None.
        per_second: Show samples per second, and the ratio as a speed-up with `bar` as its lower limit.
    """

    section: str
    name: str
    numerator: str
    denominator: str | tuple[str, ...]
    bar: float | None = None
    per_second: bool = False

    @property
    def contenders(self) -> tuple[str, ...]:
        """Every name that the row needs."""
        rest = (self.denominator,) if isinstance(self.denominator, str) else self.denominator
        return (self.numerator, *rest)


@dataclass(frozen=True)
class Outcome:
    """A row with its measurements, over `rounds` rounds. `met` is None for a row without a bar."""

    row: Row
    denominator: str
    above: Spread
    below: Spread | None
    ratio: Spread | None
    met: bool | None
    rounds: int


STEP_BAR, TORCHJD_BAR, LOADER_BAR, LOADER_SHARE = 1.10, 1.0, 10.0, 0.05
SOLVER_BARS, VECTOR_BAR = {3: 1e-3, 40: 10e-3}, 1 / 20
SECTIONS = ("steps", "torchjd", "literal", "solver", "vectors", "loader", "reading", "scenes", "diagnostics")
REFERENCE = {"gradient": "bare", "loss": "uniform", "sequential": "uniform"}
LABEL = {"gradient": "whole step", "loss": "whole step", "sequential": "per optimizer step"}


def rows() -> list[Row]:
    """All rows. A further comparison is one more `Row`, and a contender in `build` if its name is new."""
    kinds = sorted(steps.strategies().items(), key=lambda item: (list(REFERENCE).index(item[1]), item[0]))
    found = [Row("steps", "plain step on the summed loss / bare", "uniform", "bare")]
    for name, kind in kinds:
        bar = STEP_BAR if kind == "gradient" else None
        label = f"{name}, {LABEL[kind]} / {REFERENCE[kind]}"
        found.append(Row("steps", label, f"ours:{name}", REFERENCE[kind], bar))
    if find_spec("torchjd") is not None:
        for name in ("pcgrad", "mgda"):
            found += [
                Row("torchjd", f"{name}, ours / TorchJD", f"ours:{name}", f"torchjd:{name}", TORCHJD_BAR),
                Row("torchjd", f"{name}, ours / TorchJD without vmap", f"ours:{name}", f"chunk1:{name}", TORCHJD_BAR),
            ]
        found += [
            Row("torchjd", f"{name}, ours / TorchJD", f"ours:{name}", f"scalarized:{name}", TORCHJD_BAR)
            for name in ("uncertainty", "dwa")
        ]
    found += [
        Row("literal", f"{name}, ours / literal loop", f"ours:{name}", f"literal:{name}") for name in ("pcgrad", "mgda")
    ]
    for m, seconds in SOLVER_BARS.items():
        found += [
            Row("solver", f"{name}, weights from a Gramian, m = {m}", f"solver:{name}:{m}", (), seconds)
            for name in solvers.solvers()
        ]
    label = f"pcgrad of {solvers.TASKS} given gradients of {solvers.PARAMETERS:,}, ours / literal vectors"
    found.append(Row("vectors", label, "vectors:ours", "vectors:literal", VECTOR_BAR))
    dataloaders = ("dataloader:0", "dataloader:2")
    label = "Loader / fastest DataLoader"
    found.append(Row("loader", label, "tensors", dataloaders, LOADER_BAR, per_second=True))
    for size, text in (("small", "nyuv2_small"), ("full", "nyuv2 at 288x384")):
        label, files = f"{text}, packed / .npy files in the fastest DataLoader", (f"npy:{size}:0", f"npy:{size}:2")
        found.append(Row("reading", label, f"packed:{size}", files, LOADER_BAR, per_second=True))
    look = "diagnostics of one step of two tasks / a plain step"
    found.append(Row("diagnostics", look, "look", "ours:uniform", diagnostics.LOOK_BAR))
    found.append(Row("diagnostics", "path of one step / a plain step", "path", "ours:uniform", diagnostics.PATH_BAR))
    label = "nyuv2_small, Loader with augmentation / step of unet_small, per batch"
    return [*found, Row("scenes", label, "scenes:batches", "scenes:step", LOADER_SHARE)]


def build(name: str) -> Contender:
    """A contender by name; each has a network and data of its own."""
    kind, _, argument = name.partition(":")
    factories: dict[str, Callable[[], Contender]] = {
        "bare": steps.bare,
        "uniform": steps.uniform,
        "ours": partial(steps.strategy, argument),
        "torchjd": partial(rivals.gradient, argument),
        "chunk1": partial(rivals.gradient, argument, chunk=1),
        "scalarized": partial(rivals.scalarized, argument),
        "literal": literal.pcgrad if argument == "pcgrad" else literal.mgda,
        "solver": lambda: solvers.solve(argument.partition(":")[0], int(argument.partition(":")[2])),
        "vectors": solvers.pcgrad if argument == "ours" else solvers.literal_pcgrad,
        "tensors": loaders.tensors,
        "dataloader": lambda: loaders.dataloader(int(argument)),
        "npy": lambda: scenes.npy(argument.partition(":")[0], int(argument.partition(":")[2])),
        "packed": lambda: scenes.packed(argument),
        "look": diagnostics.look,
        "path": diagnostics.path,
        "scenes": scenes.batches if argument == "batches" else scenes.step,
    }
    return factories[kind]()


def judge(row: Row, seconds: dict[str, list[float]]) -> Outcome:
    """Medians and quartiles of times and of per-round ratios."""
    if not row.denominator:
        spread = Spread.of(seconds[row.numerator])
        met = None if row.bar is None else spread.median <= row.bar
        return Outcome(row, "", spread, None, None, met, len(seconds[row.numerator]))
    below = min(row.contenders[1:], key=lambda name: Spread.of(seconds[name]).median)
    pairs = list(zip(seconds[row.numerator], seconds[below], strict=True))
    if row.per_second:
        ratio = Spread.of([b / a for a, b in pairs])
        above, under = (_rates(seconds[name]) for name in (row.numerator, below))
        met = None if row.bar is None else ratio.median >= row.bar
        return Outcome(row, below, above, under, ratio, met, len(pairs))
    ratio = Spread.of([a / b for a, b in pairs])
    met = None if row.bar is None else ratio.median <= row.bar
    return Outcome(row, below, Spread.of(seconds[row.numerator]), Spread.of(seconds[below]), ratio, met, len(pairs))


def _rates(seconds: Sequence[float]) -> Spread:
    return Spread.of([1 / value for value in seconds])
