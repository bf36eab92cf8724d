"""What is compared with what: a row as data, and its outcome once its contenders are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.timing import Measured, Spread

Kind = Literal["ratio", "speedup", "value", "difference", "bytes"]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        section: The section that measures it.
        name: For the reader; one of its kind in the section.
        above: Contender.
        below: Contender; several names for the fastest of them; none for a `value`.
        bar: What the number may be at most (of a speed-up: at least), or None.
        kind: `ratio`: seconds of `above` over seconds of `below`. `speedup`: the inverse, shown with samples a second.
            `value`: the seconds of `above` themselves. `difference`: seconds of `above` minus those of `below`.
            `bytes`: a ratio of memory.
    """

    section: str
    name: str
    above: str
    below: str | tuple[str, ...] = ()
    bar: float | None = None
    kind: Kind = "ratio"

    @property
    def key(self) -> str:
        """Section and name."""
        return f"{self.section}: {self.name}"

    @property
    def rivals(self) -> tuple[str, ...]:
        """The contenders below the line."""
        return (self.below,) if isinstance(self.below, str) else self.below

    @property
    def contenders(self) -> tuple[str, ...]:
        """Every name that the row needs."""
        return (self.above, *self.rivals)


@dataclass(frozen=True)
class Outcome:
    """A row with its measurements.

    Attributes:
        row: The row.
        number: What is held against the bar; None if a contender does not exist in this version or on this machine.
        above: Of the first contender.
        below: Of the second, if the row has one.
        met: None for a row without a bar, or one that was not measured.
        rounds: In which all contenders took part.
    """

    row: Row
    number: Spread | None = None
    above: Spread | None = None
    below: Spread | None = None
    met: bool | None = None
    rounds: int = 0


def judge(row: Row, measured: Measured) -> Outcome:
    """Medians and quartiles of both sides, and of the number of each round."""
    rivals = [name for name in row.rivals if name in measured]
    if row.above not in measured or (row.rivals and not rivals):
        return Outcome(row)
    if not rivals:
        values = [value for value in measured[row.above] if value is not None]
        return _outcome(row, values, values, None)
    below = min(rivals, key=lambda name: Spread.of([value for value in measured[name] if value is not None]).median)
    pairs = [
        (a, b) for a, b in zip(measured[row.above], measured[below], strict=True) if a is not None and b is not None
    ]
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    if row.kind == "speedup":
        return _outcome(row, [b / a for a, b in pairs], [1 / a for a in firsts], [1 / b for b in seconds])
    numbers = [a - b if row.kind == "difference" else a / b for a, b in pairs]
    return _outcome(row, numbers, firsts, seconds)


def _outcome(row: Row, numbers: Sequence[float], above: Sequence[float], below: Sequence[float] | None) -> Outcome:
    number = Spread.of(numbers)
    met = None
    if row.bar is not None:
        met = number.median >= row.bar if row.kind == "speedup" else number.median <= row.bar
    under = None if below is None else Spread.of(below)
    return Outcome(row, number, Spread.of(above), under, met, len(numbers))


def bars(rows: Sequence[Row]) -> Mapping[str, float]:
    """Key -> bar, of the rows that have one; what bars.yaml has to agree with."""
    return {row.key: row.bar for row in rows if row.bar is not None}
