"""The problem of scripts/sketch_trial.py, and one training run on it."""
