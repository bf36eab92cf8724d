"""Packages of users: their code can be a `_target_`, and their `configs/` belong to the search path."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mtl.errors import ConfigError

VARIABLE = "MTL_PLUGINS"
"""Environment variable: directories of packages, separated like those of PATH."""


def config_directory() -> Path:
    """The configs/ directory of this checkout."""
    return Path(__file__).parents[2] / "configs"


def plugin_packages() -> dict[str, Path]:
    """Name -> directory of the packages named in MTL_PLUGINS, which can be imported from here on.

    The directory above a package is put at the end of Python's path, so that nothing else is shadowed by it.

    Raises:
        ConfigError: there is no such directory, its name is none of a package, or Python knows another package by it.
    """
    found: dict[str, Path] = {}
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        directory = Path(text).resolve()
        name = directory.name
        if not directory.is_dir() or not name.isidentifier():
            raise ConfigError(
                f"`{VARIABLE}` should hold directories of Python packages separated by `{os.pathsep}`. Found `{text}`, "
                f"which is {'no directory' if not directory.is_dir() else 'not the name of a package'}."
            )
        if str(directory.parent) not in sys.path:
            sys.path.append(str(directory.parent))
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations if spec else None) or ()]
        if places != [directory]:
            where = ", ".join(map(str, places)) or (spec.origin if spec else None)
            raise ConfigError(f"`{VARIABLE}` names {directory}, but `import {name}` finds {where}. Rename yours.")
        found[name] = directory
    return found


def config_directories() -> list[Path]:
    """All directories of configs: this checkout's, then `configs/` of every plugin that has one."""
    own = [directory / "configs" for directory in plugin_packages().values()]
    return [config_directory(), *(directory for directory in own if directory.is_dir())]


def find_configs(group: str, pattern: str = "*.yaml") -> dict[str, Path]:
    """Name -> file of the configs of a group, those of plugins included.

    Args:
        group: A folder of configs/.
        pattern: `*.yaml`, or `**/*.yaml` for names with slashes too.

    Raises:
        ConfigError: a plugin has a config of a name that is taken; which of the two is meant would not be clear.
    """
    found: dict[str, Path] = {}
    for directory in config_directories():
        root = directory / group
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in found:
                raise ConfigError(f"{path} and {found[name]} have the same name. Rename yours.")
            found[name] = path
    return found


def find_root(group: str, name: str) -> Path:
    """The folder of a group that has the config `name`: of this checkout, unless it is a plugin's."""
    path = find_configs(group, f"{name}.yaml").get(name)
    return config_directory() / group if path is None else path.parents[name.count("/")]


class PluginConfigs(SearchPathPlugin):
    """Puts `configs/` of every plugin behind this checkout's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before it composes."""
        directories = config_directories()[1:]
        if directories:
            find_configs("", "**/*.yaml")  # no name twice
        for directory in directories:
            search_path.append("mtl-plugin", f"file://{directory}")


def register() -> None:
    """Make the configs of plugins available to Hydra."""
    Plugins.instance().register(PluginConfigs)


def used_plugins(config: Mapping[Any, Any]) -> dict[str, Path]:
    """Those packages of `plugin_packages` that a configuration has a `_target_` in."""
    packages = {target.partition(".")[0] for target in _targets(config)}
    return {name: directory for name, directory in plugin_packages().items() if name in packages}


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _targets(value)
