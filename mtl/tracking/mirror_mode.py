"""Whether the mirror uploads."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

CLOUD = "https://api.wandb.ai"


def choose_mode(mode: str) -> tuple[str, str]:
    """The mode to use, and why, for `tracking.mode`.

    `auto` takes what WANDB_MODE says, else `online` if a key is configured for the server (WANDB_BASE_URL), else
    `offline`.
    """
    if mode != "auto":
        return mode, f"tracking.mode={mode}"
    wanted = os.environ.get("WANDB_MODE", "")
    if wanted in ("online", "offline", "disabled"):
        return wanted, f"WANDB_MODE={wanted}"
    source = key_source(os.environ.get("WANDB_BASE_URL") or CLOUD)
    return ("online", f"key in {source}") if source else ("offline", "no API key is set")


def key_source(server: str) -> str | None:
    """Where a key for the server is configured; None if nowhere. The key itself is not looked at."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    home = Path.home()
    named = os.environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        if not path.is_file():
            continue
        try:
            hosts = netrc.netrc(path).hosts
        except (netrc.NetrcParseError, OSError):
            continue  # the client says what is wrong with it when it is asked to go online
        if urlsplit(server).netloc in hosts:
            return str(path)
    return None
