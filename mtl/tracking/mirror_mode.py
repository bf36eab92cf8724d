"""Whether the mirror uploads."""

import configparser
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mtl.errors import ConfigError

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "dryrun": "offline", "run": "online"}
"""What W&B calls a mode -> the mode; the last two are older names."""
CLOUD = ("api.forge.coreweave.com", "api.wandb.ai")
"""Hosts of W&B's own server: the client looks for a key of the second where it finds none of the first."""


def choose_mode(mode: str) -> tuple[str, str]:
    """The mode to use, and why, for `tracking.mode`.

    `auto` takes what WANDB_MODE says, else what W&B's settings files say (`wandb offline` writes one in the directory),
    else `online` if a key is configured for the server, else `offline`. WANDB_MODE is put in the one form that the
    client takes, since it refuses another even where it is not asked.

    Raises:
        ConfigError: A mode is unknown, or the client refuses its settings.
    """
    wanted = _known(os.environ.get("WANDB_MODE", ""), "WANDB_MODE")
    if "WANDB_MODE" in os.environ:
        os.environ["WANDB_MODE"] = wanted
        if not wanted:
            del os.environ["WANDB_MODE"]
    if mode != "auto":
        return mode, f"tracking.mode={mode}"
    if wanted:
        return wanted, f"WANDB_MODE={wanted}"
    settings = _client_settings()
    for path in (settings.settings_workspace, settings.settings_system):
        wanted = _known(_mode_in(Path(path)), f"`mode` in {path}") if path else ""
        if wanted:
            return wanted, f"mode in {path}"
    source = key_source(settings.base_url)
    return ("online", f"key in {source}") if source else ("offline", "no API key is set")


def key_source(server: str) -> str | None:
    """Where a key for the server is configured; None if nowhere. The key itself is not looked at."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    home = Path.home()
    named = os.environ.get("NETRC")
    host = urlsplit(server).netloc
    accepted = CLOUD if host == CLOUD[0] else (host,)
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        if not path.is_file():
            continue
        try:
            hosts = netrc.netrc(path).hosts
        except (netrc.NetrcParseError, OSError):
            continue  # the client says what is wrong with it when it is asked to go online
        if any(name in hosts for name in accepted):
            return str(path)
    return None


def _known(text: str, where: str) -> str:
    name = text.strip().lower()
    if name and name not in MODES:
        raise ConfigError(f"{where} should be online, offline or disabled. Found `{text}`.")
    return MODES.get(name, "")


def _client_settings() -> Any:
    """W&B's own settings: its files, and the environment."""
    import wandb

    try:
        return wandb.setup().settings
    except ValueError as error:
        raise ConfigError(f"W&B does not take its settings (environment variables WANDB_*): {error}") from error


def _mode_in(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"W&B's settings in {path} cannot be read ({error}). Mend or remove the file.") from error
    return parser.get("default", "mode", fallback="")
