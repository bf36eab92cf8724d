"""Numbers as text for people: a true minus sign, as many digits as they are worth."""

import math

from mtl.results.comparison import Cell

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
UNDEFINED = "undefined"


def fixed(value: float, decimals: int) -> str:
    """With a fixed number of decimals; minus zero is zero."""
    if not math.isfinite(value):
        return UNDEFINED if math.isnan(value) else f"{MINUS if value < 0 else ''}∞"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", MINUS)


def signed(value: float, decimals: int = 2) -> str:
    """As `fixed`, with a plus sign above zero."""
    text = fixed(value, decimals)
    return f"+{text}" if math.isfinite(value) and float(f"{value:.{decimals}f}") > 0 else text


def significant(value: float, digits: int = 3) -> str:
    """With so many significant digits, without an exponent between 1e-4 and 1e6."""
    if not math.isfinite(value) or value == 0:
        return fixed(value, 0)
    if 1e-4 <= abs(value) < 1e6:
        return fixed(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def plain(value: float) -> str:
    """With at most four significant digits and no trailing zeros."""
    text = f"{value:.4g}"
    return (f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else text).replace("-", MINUS)


def spread(cell: Cell, decimals: int) -> str:
    """Mean ± sd."""
    centre = fixed(cell.mean, decimals)
    return centre if cell.sd is None else f"{centre} ± {fixed(cell.sd, decimals)}"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A count and its noun: 1 seed, 3 seeds."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def listed(words: list[str], most: int = 8) -> str:
    """a, b and c; with more than `most` the rest is counted."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
