"""Best and last values of a run, for the mirror."""

import math
from collections.abc import Mapping

from mtl.tracking.base import Event

Directions = Mapping[str, Mapping[str, bool]]
"""Task -> metric -> whether higher is better."""


class Standing:
    """The last value of every metric on every split, and its best on the validation split.

    There is no best on a test split: that would be a choice on the data that a result is reported on.

    Args:
        directions: Which way is better.
    """

    def __init__(self, directions: Directions) -> None:
        self._directions = directions
        self._last: dict[str, float | None] = {}
        self._best: dict[str, float] = {}
        self._epoch: dict[str, float] = {}

    def take(self, event: Event) -> None:
        """Take notice of an `evaluation` event; a value that is not finite is no best one, and as the last one None."""
        for split, by_task in event["metrics"].items():
            for task, metrics in by_task.items():
                for metric, value in metrics.items():
                    name = f"{split}/{task}/{metric}"
                    self._last[name] = value if value is not None and math.isfinite(value) else None
                    if self._last[name] is None:
                        continue
                    sign = 1 if self._directions[task][metric] else -1
                    if split == "val" and (name not in self._best or sign * value > sign * self._best[name]):
                        self._best[name], self._epoch[name] = value, event["epoch"]

    def summary(self) -> dict[str, float | None]:
        """`last/SPLIT/TASK/METRIC`, `best/val/TASK/METRIC` and the epoch of each best, `best_epoch/val/TASK/METRIC`."""
        return {
            **{f"last/{name}": value for name, value in self._last.items()},
            **{f"best/{name}": value for name, value in self._best.items()},
            **{f"best_epoch/{name}": value for name, value in self._epoch.items()},
        }
