"""Axes of charts: from values to pixels, and where the ticks stand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtl.results.report.numbers import MINUS, fixed


@dataclass(frozen=True)
class Axis:
    """A linear axis; of a logarithmic one the values are decimal logarithms.

    Attributes:
        low: Value at `start`.
        high: Value at `end`, above `low`.
        start: Pixel of `low`.
        end: Pixel of `high`.
        log: Whether values are logarithms.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, *, room: float = 0.06, log: bool = False
    ) -> "Axis":
        """An axis that holds all finite values, with a little room on both sides."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = room * (high - low) or 0.05 * abs(high) or 0.5
        return cls(low - margin, high + margin, start, end, log)

    def at(self, value: float) -> float:
        """Pixel of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Values and labels of about `most` round ticks."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        step = _round_step((self.high - self.low) / most)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        if round(step * 10**decimals) != round(step * 10**decimals, 6):
            decimals += 1
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [((first + i) * step, fixed((first + i) * step, decimals)) for i in range(count)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors in (_FINE, (1, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [
            (exponent + math.log10(factor), _power(factor, exponent))
            for exponent in decades
            for factor in factors
            if low <= exponent + math.log10(factor) <= high
        ]
        if len(found) <= most:
            break
    every = math.ceil(len(found) / most) if found else 1
    return found[::every]


_FINE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


def _power(factor: float, exponent: int) -> str:
    if -3 <= exponent <= 4:
        decimals = max(0, -exponent) + (factor != int(factor))
        return fixed(factor * 10.0**exponent, decimals if factor * 10.0**exponent < 10 else 0)
    return f"{factor:g}e{exponent}".replace("-", MINUS)
