"""How methods look: the same colour and marker in every figure and on every page of one comparison."""

from collections.abc import Sequence

# Okabe and Ito (2008) without its yellow, which vanishes as a line on white; then two dark tones of Tol's muted scheme.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#6B6B00")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h", "<", ">", "p")
UNITS = {"accuracy": "%", "miou": "%", "pix_acc": "%"}
"""Metric -> unit; no unit for others."""


def method_styles(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker by name, so that a method looks the same in every figure of one comparison."""
    ordered = sorted(labels)
    return {name: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(ordered)}
