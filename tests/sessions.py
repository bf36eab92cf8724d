"""A terminal in a directory that looks like the checkout: runs the commands of a page one after another."""

import os
import re
import subprocess
import sys
from pathlib import Path

from mtl.config import compose_config
from mtl.config.build import build_spec
from tests import miniature_faces, miniature_streets, miniatures
from tests.pages import Command, File, read_page
from tests.problems import REPOSITORY

SHORT = ["dataset.train_size=64", "dataset.val_size=16", "dataset.test_size=16"]
LENGTH = {"train": "trainer.max_steps=2", "demo": "trainer.max_epochs=1"}


class Session:
    """One page in one directory; `outputs/`, and the files that the page shows, are the session's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("configs", "docs", "mtl", "scripts", "tests", "Makefile", "pyproject.toml"):
            (directory / name).symlink_to(REPOSITORY / name)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "MTL_DATA": str(directory / "data"), "OMP_NUM_THREADS": "1"}
        self.skipped: list[str] = []

    def play(self, page: str) -> None:
        """Write the page's files and run its commands."""
        for item in read_page(page):
            if isinstance(item, File):
                path = self.directory / item.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(item.text, encoding="utf-8")
            else:
                self.do(item)
        print("\n".join(self.skipped))

    def do(self, command: Command) -> str:
        """Run one command as its decision says; returns what it printed."""
        if command.verb == "skip":
            self.skipped.append(f"not run, {command.rest}: {command.text}")
            return ""
        if command.verb == "compose":
            build(command.text)
            return ""
        text = command.rest if command.verb == "as" else command.text
        exported = re.fullmatch(r"export (\w+)=(\S+)", text)
        if exported:
            self.environment[exported[1]] = exported[2].replace("$PWD", str(self.directory))
            return ""
        if re.match(r"source|make ", text):  # the environment is there; targets: see test_make_targets_are_there
            return ""
        added = command.rest.split() if command.verb == "add" else []
        return self.shell(self.filled(shortened(text, added)))

    def shell(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def filled(self, text: str) -> str:
        """The command with places for RUN_DIR and for directories of raw data."""
        if "RUN_DIR" in text:
            runs = sorted((p.parent for p in self.directory.rglob("config.yaml")), key=lambda p: p.stat().st_mtime)
            assert runs, f"No run before `{text}`."
            text = text.replace("RUN_DIR2", str(runs[-2:][0])).replace("RUN_DIR", str(runs[-1]))
        if re.search(r"source=(DIR|RAW)\b", text):
            name = re.search(r"dataset=([a-z0-9]+)", text)[1]
            text = re.sub(r"source=(DIR|RAW)\b", f"source={self.raw(name)}", text)
        return text

    def raw(self, name: str) -> Path:
        """A miniature of a raw data set."""
        path = self.directory / "raw" / name
        if not path.exists():
            write = {
                "nyuv2": miniatures.write_folder,
                "cityscapes": miniature_streets.write_official,
                "celeba": miniature_faces.write,
            }[name]
            write(path)
        return path


def shortened(text: str, added: list[str]) -> str:
    """A training command cut to a moment, others as they are, with the arguments that the page's comment adds."""
    script = re.search(r"scripts/(train|demo)\.py", text)
    if script and not re.search(r"resume=|--help|--cfg", text):
        data = re.search(r"dataset=(\w+)", text)
        cut = [LENGTH[script[1]], *(SHORT if data is None or data[1] == "multidigits" else [])]
        added = cut + added
    words, redirection = re.fullmatch(r"(.*?)(\s*(?:>|\|).*)?", text).groups()
    return f"{words} {' '.join(added)}{redirection or ''}" if added else text


def build(text: str) -> None:
    """Compose and build the configuration of the first job of a training command."""
    words = [word for word in re.sub(r"^(\w+=\S+ )*python \S+", "", text).split() if "=" in word]
    own = ("out", "seeds", "strategies", "tasks") if "demo.py" in text else ()
    overrides = [
        word if "[" in word else re.sub(r",.*", "", word) for word in words if word.partition("=")[0] not in own
    ]
    assert build_spec(*compose_config([word for word in overrides if not word.startswith("hydra")]))
