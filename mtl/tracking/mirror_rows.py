"""Events of the record as rows of scalars for the mirror."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl.tracking.base import Event

PREFIX = {"step": "train", "evaluation": "eval", "diagnostics": "diagnostics"}
"""Kind of event -> beginning of its names; the rest of a name is the path of the value in the event."""
POSITION = ("event", "time", "step", "epoch", "epochs")
MATRICES = ("cosines", "magnitude_similarity", "affinity")
PAIRS_UP_TO = 12
"""Most tasks for which pairs of tasks, and shares by layer, become scalars of their own: 40 tasks have 780 pairs."""


def row(event: Event) -> dict[str, float | str]:
    """The scalars of an event by name; values that are not finite are left out. Empty for a kind that has no row."""
    if event["event"] not in PREFIX:
        return {}
    prefix = PREFIX[event["event"]]
    found: dict[str, float | str] = {"step": int(event["step"])}
    if event["event"] == "evaluation":
        found["epoch"] = event["epoch"]
    tasks = tuple(event.get("gradient_norms", ()))
    few = len(tasks) <= PAIRS_UP_TO
    for key, value in event.items():
        name = f"{prefix}/{key}"
        if key in POSITION or (key == "update_share" and not few):
            continue
        if key == "groups":
            found[name] = groups_text(value)
        elif key in MATRICES:
            found |= _matrix(value, tasks, name, symmetric=key != "affinity", pairs=few)
        else:
            found |= dict(_scalars(value, name))
    return found


def groups_text(groups: Sequence[Sequence[str]]) -> str:
    """Task groups in the order of their updates: `a+b | c`."""
    return " | ".join("+".join(group) for group in groups)


def _matrix(
    rows: Sequence[Sequence[float | None]], tasks: Sequence[str], name: str, *, symmetric: bool, pairs: bool
) -> dict[str, float | str]:
    """Mean and least of the entries off the diagonal, and the entries themselves: once a pair if symmetric."""
    cells = {
        (i, j): float(value)
        for i, entries in enumerate(rows)
        for j, value in enumerate(entries)
        if value is not None and math.isfinite(value)
    }
    off = [value for (i, j), value in cells.items() if i != j]
    found: dict[str, float | str] = {}
    if off:
        found = {f"{name}_mean": math.fsum(off) / len(off), f"{name}_least": min(off)}
    if pairs:
        kept = {key: value for key, value in cells.items() if not symmetric or key[0] < key[1]}
        found |= {f"{name}/{tasks[i]}/{tasks[j]}": value for (i, j), value in kept.items()}
    return found


def _scalars(value: Any, name: str) -> Iterator[tuple[str, float | str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, f"{name}/{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield name, value
