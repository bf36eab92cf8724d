"""Diagnostics of training: what task gradients and updates look like at some steps, and how far training has moved."""

from mtl.diagnostics.recorder import Recorder

__all__ = ["Recorder"]
