"""The record of a run (metrics.jsonl), its W&B mirror, and the progress display."""

from mtl.tracking.base import Event, Tracker, finite
from mtl.tracking.jsonl import JsonlTracker, first_start, last_checkpoint, read_events
from mtl.tracking.progress import make_progress
from mtl.tracking.settings import DiagnosticsSettings, TrackingSettings
from mtl.tracking.wandb import WandbTracker

__all__ = [
    "DiagnosticsSettings",
    "Event",
    "JsonlTracker",
    "Tracker",
    "TrackingSettings",
    "WandbTracker",
    "finite",
    "first_start",
    "last_checkpoint",
    "make_progress",
    "read_events",
]
