"""What the README says is true: its commands run, its files exist."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.miniatures import WRITERS
from tests.problems import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
SCENES = [command for command in COMMANDS if "dataset=nyuv2" in command]
SHORT = ["trainer.max_steps=2", "dataset.train_size=64", "dataset.val_size=16", "dataset.test_size=16"]


def test_every_command_is_of_a_kind_that_is_tested():
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        assert re.match(r"(make \w+|source \.venv/bin/activate|python scripts/\w+\.py)", command), command


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("readme") / "run"
    execute(f"python scripts/train.py hydra.run.dir={path}", path.parent)
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A data directory with a miniature of NYUv2, not yet prepared."""
    path = tmp_path_factory.mktemp("scenes")
    WRITERS["folder"](path / "raw")
    return path


def execute(command, working_directory, data_directory=None):
    words = shlex.split(command)
    words[0] = sys.executable
    words[1] = str(REPOSITORY / words[1])
    if words[1].endswith("search.py"):
        words += [*SHORT, "trials=2"]
    elif words[1].endswith("train.py") and not any(word.startswith("resume=") for word in words):
        words += SHORT if data_directory is None else ["trainer.max_steps=2", "dataset.val_size=2"]
    environment = {**os.environ, "MTL_DATA": str(data_directory)} if data_directory is not None else None
    done = subprocess.run(words, cwd=working_directory, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_commands_about_scenes_run_in_their_order(scenes, tmp_path):
    assert [command.split()[1] for command in SCENES] == ["scripts/prepare_data.py", "scripts/train.py"]
    for command in SCENES:
        assert execute(command.replace("source=DIR", f"source={scenes / 'raw'}"), tmp_path, scenes)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ") and c not in SCENES])
def test_commands_run(command, run_directory, tmp_path):
    command = command.replace("RUN_DIR", str(run_directory))
    if "runs=outputs/demo" in command:
        command = command.replace("outputs/demo", str(run_directory))
        command += "" if " out=" in command else f" out={tmp_path}"
    assert execute(command, tmp_path)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (REPOSITORY / target).exists()


@pytest.mark.slow
def test_help_and_configuration_are_worth_reading(tmp_path):
    text = execute("python scripts/train.py --help", tmp_path)
    for word in ("strategy:", "mgda_ub", "resume=RUN_DIR", "max_epochs"):
        assert word in text
