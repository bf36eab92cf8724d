"""Finished runs to tables and figures: read, compare, draw. Knows files and numbers, no tensors."""
