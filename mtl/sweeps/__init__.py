"""Sweeps: a manifest with frozen configurations, the states of jobs, worker processes, the table and the last lines."""
