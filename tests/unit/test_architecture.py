"""Rules about the code itself."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from mtl.config.build import config_directory
from tests.problems import REPOSITORY, STRATEGIES

SOURCES = sorted((REPOSITORY / "mtl").rglob("*.py"))
METHODS = [name for name in STRATEGIES if name not in ("uniform", "static", "random")]  # words with another use


@pytest.mark.parametrize("path", sorted((REPOSITORY / "mtl/training").glob("*.py")), ids=lambda path: path.name)
def test_the_trainer_knows_no_method(path):
    text = path.read_text().lower()
    for name in METHODS:
        assert not re.search(rf"\b{name}\b", text)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            assert "Strategy" not in ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_are_small_and_catch_nothing_bare(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert not re.search(r"except\s*:", text)
    assert "hasattr(strategy" not in text


@pytest.mark.parametrize("path", sorted(config_directory().rglob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_explained(path):
    """A strategy's file begins with what it is, and writes out every option of what it builds."""
    import inspect

    from hydra.utils import get_object

    text = path.read_text()
    if path.parent.name == "strategy":
        assert text.startswith("# ")
    if path.parent.name not in ("strategy", "backbone", "heads", "dataset"):
        return

    def check(node):
        given = {key for key in node if not key.startswith("_")}
        parameters = inspect.signature(get_object(node["_target_"])).parameters
        framework = {"input_shape", "tasks", "in_features", "num_outputs", "output_size"}
        supplied = framework if node.get("_partial_") else set()
        assert given == set(parameters) - supplied, path
        for value in node.values():
            if isinstance(value, dict) and "_target_" in value:
                check(value)

    check(yaml.safe_load(text))
