"""A terminal in a directory that looks like the checkout: runs the commands of a page one after another."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from mtl.config import compose_config, schema
from mtl.config.build import build_spec
from mtl.training.run_directory import MARKER
from tests import miniature_faces, miniature_streets, miniatures
from tests.pages import Command, File, read_page
from tests.problems import REPOSITORY

SIZES = "dataset.train_size=64 dataset.val_size=16 dataset.test_size=16"
LENGTHS = {"train": "trainer.max_steps=2", "demo": "trainer.max_epochs=1", "search": "trainer.max_steps=2 trials=2"}
DEMO = "python scripts/demo.py strategies=uniform,pcgrad"
"""`make demo`, cut; its runs are in `outputs/demo` of every session."""


class Session:
    """One page in one directory; what it writes lies there.

    Args:
        directory: An empty one.
        outputs: Runs that are there from the start; none for None.
    """

    def __init__(self, directory: Path, outputs: Path | None = None) -> None:
        self.directory = directory
        (directory / "docs" / "results").mkdir(parents=True)
        for name in ("configs", "mtl", "scripts", "tests", "Makefile", "pyproject.toml"):
            (directory / name).symlink_to(REPOSITORY / name)
        if outputs is not None:
            shutil.copytree(outputs, directory / "outputs")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(REPOSITORY), "MTL_DATA": str(directory / "data"), "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own}

    def play(self, page: str) -> None:
        """Write the page's files and run its commands."""
        for item in read_page(page):
            if isinstance(item, File):
                path = self.directory / item.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(item.text, encoding="utf-8")
            else:
                self.do(item)

    def do(self, command: Command) -> None:
        """Run one command as its decision says."""
        text = command.rest if command.verb == "as" else command.text
        exported = re.fullmatch(r"export (\w+)=(\S+)", text)
        if command.verb == "compose":
            build(text)
        elif exported:
            self.environment[exported[1]] = exported[2]
        elif command.verb != "skip" and text not in ("make demo", "source .venv/bin/activate"):
            self.shell(self.filled(shortened(text, command.rest if command.verb == "add" else "")))

    def shell(self, text: str) -> str:
        """Run a command line; returns what it printed."""
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def filled(self, text: str) -> str:
        """The command with real places: the latest run, its sweep, all runs, directories of raw data."""
        if "RUN_DIR" in text or "SWEEP_DIR" in text:
            marks = sorted(self.directory.rglob(MARKER), key=lambda path: path.stat().st_ctime)
            runs = [mark.parent for mark in marks]
            text = text.replace("RUN_DIR2", str(runs[-2])).replace("SWEEP_DIR", str(runs[-1].parent))
            text = text.replace("RUN_DIR", str(runs[-1]))
        raw = re.search(r"source=(DIR|RAW)\b", text)
        if raw:
            name = re.search(r"dataset=([a-z0-9]+)", text)
            assert name is not None, text
            text = text.replace(raw[0], f"source={self.raw(name[1])}")
        text = re.sub(r"\bruns=(DIR|outputs/EXPERIMENT)\b", "runs=outputs", text)
        return re.sub(r"\bout=DIR\b", "out=outputs/pages", text)

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


def shortened(text: str, added: str = "") -> str:
    """A command that trains cut to a moment, another as it is, with the arguments that the page's comment adds."""
    script = re.search(r"scripts/(train|demo|search)\.py", text)
    if script and not re.search(r"resume=|--help|--cfg", text):
        data = re.search(r"dataset=(\w+)", text)
        sizes = SIZES if data is None or data[1] == "multidigits" else ""
        added = " ".join(filter(None, (LENGTHS[script[1]], sizes, added)))
    words = re.fullmatch(r"(.*?)(\s+[>|].*)?", text)
    assert words is not None
    return f"{words[1]} {added}{words[2] or ''}" if added else text


def build(text: str) -> None:
    """Compose and build the configuration of the first job of a training command."""
    words = [word for word in shlex.split(text.partition(".py")[2]) if "=" in word and not word.startswith("hydra")]
    own = ("out", "seeds", "strategies", "tasks") if "demo.py" in text else ()
    first = [re.split(r",(?![^\[]*\])", word)[0] for word in words if word.partition("=")[0] not in own]
    build_spec(*compose_config([*_of_the_sweep(first), *first]))


def _of_the_sweep(words: list[str]) -> list[str]:
    """The strategy that the sweep's own parameters choose first, where the command leaves it to them."""
    names = [word.partition("=")[2] for word in words if word.startswith("sweep=")]
    if not names or any(word.startswith("strategy=") for word in words):
        return []
    schema.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(REPOSITORY / "configs")):
        params = compose("train", [f"sweep={names[0]}"], return_hydra_config=True).hydra.sweeper.params or {}
    return [f"strategy={str(params['strategy']).partition(',')[0]}"] if "strategy" in params else []
