"""One seed, a separate stream for every purpose."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for `purpose`, a function of its arguments alone (stable over versions and machines)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
