"""Trackers: receivers of a run's events."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

Event = Mapping[str, Any]
"""Has the keys `event` (start, step, evaluation, checkpoint, end) and `step`; values are JSON-like."""


class Tracker(ABC):
    """Receives every event of a run, in order; closed exactly once, also after an exception."""

    @abstractmethod
    def log(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:  # noqa: B027 - not every tracker holds something open
        """Release what is held."""


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity, at any depth, replaced by None: JSON has no other word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
