"""Which keys of a configuration are no part of what makes two runs the same but for the seed."""

UNNUMERIC = (
    "data_dir",
    "prepared",
    "download",
    "eval_batch_size",
    "checkpoint_every_steps",
    "device",
    "num_threads",
    "compile",
)
"""What moves nothing, or rounding alone."""
EQUAL = {f"mtl.training.optimizers.{name}": f"torch.optim.{name}" for name in ("Adam", "AdamW")}
"""Targets that give the numbers of others, to the bit: runs with either are the same."""
DEFAULTS = {"precision": "float32", "ema": 0.0}
"""Keys of a later version at the values that say what was before: with them a run has the hash that it had."""
