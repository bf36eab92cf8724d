"""Malformed configurations and data: one clear message, exit code 1, no traceback."""

import gzip
import re
import struct
import subprocess
import sys

import pytest

from mtl.config import run_overrides, train_main
from tests.problems import REPOSITORY

QUICK = [
    "tracking.progress=none",
    "dataset.train_size=64",
    "dataset.val_size=16",
    "dataset.test_size=16",
    "dataset.batch_size=32",
    "trainer.max_epochs=1",
]

CASES = {
    "unknown group key": (["trainr.max_epochs=3"], r"Unknown key `trainr`.*Did you mean `trainer`"),
    "unknown trainer key": (["trainer.max_epohcs=3"], r"Unknown key `max_epohcs`.*max_epochs, max_steps"),
    "unknown strategy key": (["strategy=mgda", "strategy.aggregator.solvr=x"], r"Unknown key `solvr`.*solver"),
    "unknown key with a plus": (["+nothing=1"], r"Unknown key `nothing`.*dataset, backbone"),
    "unknown key of a target with a plus": (["+strategy.nothing=1"], r"Unknown key `nothing`.*weighting"),
    "unknown strategy": (["strategy=mgdaa"], r"Could not find 'strategy/mgdaa'[\s\S]*mgda_ub"),
    "unknown data set": (["dataset=mnist"], r"Could not find 'dataset/mnist'[\s\S]*multimnist"),
    "wrong type": (["trainer.max_epochs=abc"], r"trainer.max_epochs[\s\S]*'abc'"),
    "out of range": (["trainer.max_epochs=0"], r"`trainer.max_epochs` should be an integer >= 1. Found .* 0"),
    "negative learning rate": (["optimizer.lr=-0.1"], r"`optimizer.lr` should be a finite number >= 0. Found .*-0.1"),
    "learning rate that is no number": (["optimizer.lr=fast"], r"`optimizer.lr` should be a number.*'fast'"),
    "optimizer's own refusal": (["optimizer.betas=[2,0.9]"], r"refused by mtl.training.optimizers.Adam.*beta"),
    "negative seed": (["seed=-1"], r"`seed` should be an integer >= 0. Found .*-1"),
    "unknown choice": (
        ["strategy=mgda", "strategy.aggregator.solver=x"],
        r"active_set, frank_wolfe.*Found `solver = 'x'`",
    ),
    "nested bad value": (
        ["strategy=dwa", "strategy.weighting.temperature=0"],
        r"`temperature` should be a finite number > 0",
    ),
    "selection on the test split": (["trainer.selection=best_test"], r"last, best_val, mean_last_10"),
    "unknown task": (["dataset.tasks=[up]"], r"left, right.*\['up'\]"),
    "weights for other tasks": (
        ["strategy=static", "strategy.weighting.weights=[1.0]"],
        r"one number for each of the 2",
    ),
    "features needed": (
        ["strategy=mgda_ub", "backbone=lenet_cross_stitch"],
        r"needs a model that exposes its shared features.*strategy=mgda",
    ),
    "validation split needed": (
        [*QUICK, "dataset.val_size=0", "strategy=auto_lambda"],
        r"AutoLambda trains its task weights on a validation split.*Set `dataset.val_size` above 0",
    ),
    "groups of other tasks": (
        ["strategy=fixed_groups", "strategy.grouping.groups=[[left],[up]]"],
        r"each of the tasks left, right exactly once.*'up'",
    ),
    "groups that are no lists": (
        ["strategy=fixed_groups", "strategy.grouping.groups=[left,right]"],
        r"`groups` should be a list of lists",
    ),
    "weight decay per task": (["strategy=mao", "optimizer=adamw"], r"weight_decay = 0.01.*decoupled"),
    "batch larger than the data": (
        [*QUICK, "dataset.batch_size=100", "dataset.drop_last=true"],
        r"leaves no batch of 64 samples",
    ),
    "missing files": (
        ["dataset=multimnist", "paths.data_dir=/nowhere"],
        r"train-images-idx3-ubyte.*dataset.download=true",
    ),
    "device that does not exist": (["trainer.device=cuda:99"], r"trainer.device = cuda:99.*trainer.device=cpu"),
    "malformed override": (["a=b=c'"], r"mismatched input"),
    "plateau scheduler": (
        [
            "scheduler=step",
            "scheduler.factory._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
            "~scheduler.factory.step_size",
            "~scheduler.factory.gamma",
        ],
        r"ReduceLROnPlateau needs a metric",
    ),
    "target outside the whitelist": (["backbone._target_=os.system"], r"should begin with one of mtl."),
    "target that does not exist": (["backbone._target_=mtl.models.backbones.LeNot"], r"cannot be imported"),
    "a name where a node belongs": (
        ["strategy=mgda", "strategy.weighting=uncertainty"],
        r"`strategy.weighting` should be LossWeighting or null.*_target_",
    ),
    "a node left out": (
        ["strategy=mgda", "strategy.aggregator=null"],
        r"`strategy.aggregator` should be Aggregator",
    ),
    "too few betas": (["optimizer.betas=[0.9]"], r"`optimizer` was refused by mtl.training.optimizers.Adam"),
    "a string for a flag": (
        ["optimizer=sgd", "optimizer.nesterov='no'"],
        r"`optimizer.nesterov` should be true or false",
    ),
    "a string for a number": (["backbone.out_features='50'"], r"`backbone.out_features` should be an integer"),
    "a scheduler that fails": (["scheduler=step", "scheduler.factory.step_size=0"], r"refused by torch.optim.lr_sched"),
    "a negative decay": (["scheduler=step", "scheduler.factory.gamma=-1"], r"gamma` should be a finite number >= 0"),
    "epochs for steps": (["scheduler=cosine", "scheduler.interval=step"], r"give it in steps"),
    "no strategy": (["strategy=null"], r"`strategy` needs a choice"),
    "a key that the framework gives": (["+heads.num_outputs=2"], r"Unknown key `num_outputs`"),
    "a key of hydra's": (["+strategy._recursive_=false"], r"Unknown key `_recursive_`"),
    "an option without effect": (
        ["strategy=mgda", "strategy.aggregator.endpoint_clip=0.1"],
        r"no effect with `solver = active_set`",
    ),
    "resume as an appended key": (["++resume=/nowhere"], r"`resume` is given as `resume=RUN_DIR` alone"),
    "unwritable output": (["paths.output_dir=/proc/nothing"], r"cannot be used.*paths.output_dir"),
    "resume of nothing": (["resume=/nowhere"], r"/nowhere is not a run directory to resume"),
    "resume with other keys": (
        ["resume=/nowhere", "seed=2"],
        r"takes everything from the run directory. Found also: seed=2",
    ),
}


def fails(arguments, capsys, tmp_path) -> str:
    extra = (
        []
        if any(a.startswith(("resume=", "paths.output_dir")) for a in arguments)
        else [f"paths.output_dir={tmp_path / 'out'}"]
    )
    code = train_main([*arguments, *extra])
    captured = capsys.readouterr()
    assert code == 1
    assert "Traceback" not in captured.err + captured.out
    assert len(re.findall(r"^Error: ", captured.err, re.MULTILINE)) == 1
    return captured.err


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gives_one_clear_message(case, capsys, tmp_path):
    arguments, expected = CASES[case]
    assert re.search(expected, fails(arguments, capsys, tmp_path))


def idx(path, magic, shape, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(">I", magic) + b"".join(struct.pack(">I", size) for size in shape) + body
    with gzip.open(path, "wb") as file:
        file.write(content)


def mnist(root, count=30):
    folder = root / "MNIST" / "raw"
    for stem in ("train", "t10k"):
        idx(folder / f"{stem}-images-idx3-ubyte.gz", 0x803, (count, 28, 28), bytes(count * 784))
        idx(folder / f"{stem}-labels-idx1-ubyte.gz", 0x801, (count,), bytes(count))
    return folder


def truncate(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    idx(path, 0x803, (30, 28, 28), bytes(100))
    return path


def wrong_magic(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    idx(path, 0x1234, (30, 28, 28), bytes(30 * 784))
    return path


def no_gzip(folder):
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"this is no gzip file")
    return path


def other_count(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    idx(path, 0x801, (29,), bytes(29))
    return path


def bad_label(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    idx(path, 0x801, (30,), bytes([11] * 30))
    return path


@pytest.mark.parametrize("spoil", [truncate, wrong_magic, no_gzip, other_count, bad_label])
def test_bad_data_names_the_file(spoil, capsys, tmp_path):
    folder = mnist(tmp_path / "data")
    arguments = ["dataset=multimnist", f"paths.data_dir={tmp_path / 'data'}", "dataset.val_size=10"]
    name = spoil(folder).name.removesuffix(".gz")
    assert name in fails(arguments, capsys, tmp_path)


@pytest.fixture
def finished(tmp_path):
    run_overrides(QUICK, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    return tmp_path / "run"


def test_resume_of_a_foreign_directory(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text("model: resnet\n")
    assert ".mtl-run not found" in fails([f"resume={tmp_path}"], capsys, tmp_path)


def test_resume_with_a_changed_config(finished, capsys, tmp_path):
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.002"))
    assert "was changed or belongs to another run" in fails([f"resume={finished}"], capsys, tmp_path)
    assert not (finished / "summary.json").exists(), "a refused resume is no result of the run"


def test_resume_with_a_damaged_checkpoint(finished, capsys, tmp_path):
    checkpoint = finished / "checkpoints/last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "cannot be read as a checkpoint" in fails([f"resume={finished}"], capsys, tmp_path)


def test_resume_with_a_damaged_config(finished, capsys, tmp_path):
    (finished / "config.yaml").write_text("names: [")
    assert "is not the configuration of a run" in fails([f"resume={finished}"], capsys, tmp_path)


def test_a_directory_holds_one_run(finished, capsys, tmp_path):
    error = fails([*QUICK, f"hydra.run.dir={finished}"], capsys, tmp_path)
    assert "holds a run already" in error
    assert f"resume={finished}" in error


def test_a_diverging_run_is_a_result(tmp_path):
    summary = run_overrides([*QUICK, "optimizer=sgd", "optimizer.lr=1e12", "trainer.max_epochs=3"], tmp_path / "run")
    assert summary["status"] == "diverged"
    assert re.search(r"after \d+ steps: Non-finite loss: (left|right) = ", summary["message"])
    assert (tmp_path / "run/summary.json").is_file()


def test_the_command_itself(tmp_path):
    command = [sys.executable, str(REPOSITORY / "scripts/train.py"), "optimizer.lr=-1", f"paths.output_dir={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "`optimizer.lr` should be a finite number >= 0" in result.stderr
    assert "Traceback" not in result.stderr
    full = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"HYDRA_FULL_ERROR": "1", "PATH": ""}
    )
    assert full.returncode == 1
    assert "Traceback" in full.stderr
