"""Presets, `strategy=METHOD/PRESET`: a method as its paper has it, and as its released code has it."""

import json
import re

import pytest
import torch
import yaml
from torch import nn

from mtl.config import compose_config, resume_run
from mtl.config.catalog import catalog
from mtl.config.entry import train_main
from mtl.models.model import MultiTaskModel
from mtl.training.trainer import Trainer
from tests.contract.exceptions import WITHOUT_AS_RELEASED, WITHOUT_PAPER
from tests.problems import adam, build_strategy, fast_warmup, make_batches, make_objective, parameters_of, train

METHODS = {method.name: method for method in catalog()}
PRESETS = [f"{method.name}/{preset}" for method in METHODS.values() for preset in method.presets]


def read(preset):
    name, _, kind = preset.partition("/")
    path = METHODS[name].path.with_suffix("") / f"{kind}.yaml"
    return path.read_text(), yaml.safe_load(path.read_text())


def leaves(node, path=()):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def make_convolutional():
    """Convolutional backbone, for the presets that concern convolutions alone."""
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten())
    return make_objective(model=MultiTaskModel(trunk, {task: nn.Linear(12, 3) for task in "abc"}).double().train())


@pytest.mark.parametrize("preset", PRESETS)
def test_it_composes_and_steps(preset):
    cfg, names = compose_config([f"strategy={preset}"])
    assert names["strategy"] == preset
    base = METHODS[preset.partition("/")[0]].node
    for path, value in {**dict(leaves(base)), **dict(leaves(delta(preset)))}.items():
        node = cfg.strategy
        for key in path:
            node = node[key]
        assert node == value
    objective = make_convolutional() if delta(preset).get("layers") == "conv" else make_objective()
    before = parameters_of(objective)
    reports = train(build_strategy(preset, *fast_warmup(preset)), objective, make_batches(count=2), adam)
    after = parameters_of(objective)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[key], value) for key, value in after.items())
    assert len(reports) == 2


def delta(preset):
    return {key: value for key, value in read(preset)[1].items() if key != "defaults"}


@pytest.mark.parametrize("preset", PRESETS)
def test_it_differs_from_the_method_where_it_says(preset):
    """Every value in the file is another one than in the method's; a file without values says that there are none."""
    name = preset.partition("/")[0]
    text, node = read(preset)
    assert text.startswith("# ")
    assert node["defaults"] == [f"/strategy/{name}@_here_", "_self_"]
    base = dict(leaves(METHODS[name].node))
    for path, value in leaves(delta(preset)):
        assert path in base
        assert base[path] != value, f"{'.'.join(path)} is {value} in configs/strategy/{name}.yaml already"
    assert ("No option differs" in text) == (not delta(preset))


@pytest.mark.parametrize("name", METHODS)
def test_every_paper_and_every_released_code_has_its_preset(name):
    method = METHODS[name]
    assert set(method.presets) <= {"paper", "as_released"}
    where = f"configs/strategy/{name}/{{}}.yaml, or a reason in tests/contract/exceptions.py"
    assert ("paper" in method.presets) != (name in WITHOUT_PAPER), f"Add {where.format('paper')} (WITHOUT_PAPER)."
    differs = re.search(r"Released code(?!: none)", method.deviations) is not None
    if differs or name in WITHOUT_AS_RELEASED:
        found = "as_released" in method.presets
        assert found != (name in WITHOUT_AS_RELEASED), f"Add {where.format('as_released')} (WITHOUT_AS_RELEASED)."


def test_the_tables_name_methods():
    assert set(WITHOUT_PAPER) | set(WITHOUT_AS_RELEASED) <= set(METHODS)


def test_the_run_directory_and_resume(tmp_path, monkeypatch):
    """The directory has the preset below the method; the summary names both; an interrupted run goes on."""
    arguments = [
        "strategy=pcgrad/as_released",
        "dataset.train_size=64",
        "dataset.val_size=16",
        "dataset.test_size=16",
        "dataset.batch_size=16",
        "trainer.max_epochs=2",
        "trainer.checkpoint_every_steps=3",
        "trainer.num_threads=1",
        "tracking.progress=none",
    ]
    assert train_main([*arguments, f"paths.output_dir={tmp_path / 'straight'}"]) == 0
    (straight,) = (tmp_path / "straight").glob("default/multidigits/pcgrad/as_released/seed=0/*")
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["strategy"] == "pcgrad/as_released"
    assert yaml.safe_load((straight / "config.yaml").read_text())["strategy"]["aggregator"]["order"] == "fixed"

    save, calls = Trainer.save, []

    def stop(self):
        save(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", stop)
    assert train_main([*arguments, f"paths.output_dir={tmp_path / 'stopped'}"]) == 130
    monkeypatch.undo()
    (stopped,) = (tmp_path / "stopped").glob("default/multidigits/pcgrad/as_released/seed=0/*")
    resumed = resume_run(stopped)
    assert resumed["status"] == "completed"
    for key in ("strategy", "metrics", "steps"):
        assert resumed[key] == summary[key]


def test_options_go_on_top_of_a_preset(capsys):
    assert (
        train_main(["strategy=cagrad/paper", "strategy.aggregator.c=0.7", "--cfg", "job", "--package", "strategy"]) == 0
    )
    node = yaml.safe_load(capsys.readouterr().out)
    assert node["aggregator"]["c"] == 0.7
    assert node["aggregator"]["rescale"] == "none"


def test_an_unknown_preset_names_the_valid_ones(capsys):
    assert train_main(["strategy=cagrad/papre", "--cfg", "job"]) == 1
    message = capsys.readouterr().err
    assert "cagrad/papre" in message
    assert "cagrad/paper" in message or "cagrad" in message
