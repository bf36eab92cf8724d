"""The process that a run trains in: device and determinism."""

import os
import random

import numpy as np
import torch
import torch.utils.deterministic

from mtl.errors import ConfigError
from mtl.seeding import derive_seed
from mtl.training.settings import TrainerSettings


def prepare_process(settings: TrainerSettings, seed: int) -> torch.device:
    """Reset what an earlier run in this process may have left, and choose the device.

    Raises:
        ConfigError: the device does not exist here.
    """
    torch.set_default_dtype(torch.float32)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # writes every tensor twice
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    torch.manual_seed(derive_seed(seed, "global"))
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)  # noqa: NPY002 - the global one, for components that draw from it
    device = choose_device(settings.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one."""
    if name.startswith("cuda"):
        available = torch.cuda.device_count()
        if int(name.partition(":")[2] or 0) >= available:
            raise ConfigError(
                f"`trainer.device = {name}` does not exist here; found {available} CUDA devices. "
                "Use trainer.device=cpu or auto."
            )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
