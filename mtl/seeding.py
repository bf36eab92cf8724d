"""One seed, a separate stream for every purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for `purpose`, a function of its arguments alone (stable over versions and machines)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def global_states(device: torch.device) -> list[Tensor]:
    """States of torch's global generators that a forward pass on `device` draws from: the CPU's and the device's."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_global_states(states: list[Tensor], device: torch.device) -> None:
    """Continue from `global_states`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def replayed(states: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw the numbers after `states` once more (the same dropout masks); afterwards go on as if nothing was drawn."""
    now = global_states(device)
    set_global_states(states, device)
    try:
        yield
    finally:
        set_global_states(now, device)
