"""Aggregators of torchjd as methods: what they are called directly, their draws and their state."""

import copy
import subprocess
import sys

import pytest
import torch

from mtl.aggregation import Constant, FromTorchJD
from mtl.config import compose_config
from mtl.config.build import build_spec
from mtl.errors import ConfigError
from mtl.strategies import GradientStrategy
from mtl.training.checkpoint import load_checkpoint, save_checkpoint
from tests.problems import (
    REPOSITORY,
    adam,
    build_strategy,
    distance,
    make_batches,
    make_objective,
    parameters_of,
    train,
)
from tests.toys import run_with_resume, same_state
from tests.unit.aggregation.jacobians import jacobian
from tests.unit.aggregation.rows import directions, ready

aggregation = pytest.importorskip("torchjd.aggregation")

WEIGHTED = {
    "aligned_mtl": aggregation.AlignedMTL,
    "imtl_g": aggregation.IMTLG,
    "mgda": aggregation.MGDA,
    "mean": aggregation.Mean,
    "sum": aggregation.Sum,
    "krum": lambda: aggregation.Krum(n_byzantine=1),
}
DIRECTIONS = {"config": aggregation.ConFIG, "trimmed_mean": lambda: aggregation.TrimmedMean(1)}
DRAWING = {"pcgrad": aggregation.PCGrad, "random": aggregation.Random, "graddrop": aggregation.GradDrop}
STATEFUL = {
    "gradvac": aggregation.GradVac,
    "excess_mtl": lambda: aggregation.ExcessMTL(n_warmup_steps=2),
    "cr_mogm": lambda: aggregation.GramianWeightedAggregator(
        aggregation.CRMOGMWeighting(aggregation.GradVacWeighting(), alpha=0.5)
    ),
}
ALL = {**WEIGHTED, **DIRECTIONS, **DRAWING, **STATEFUL}


@pytest.mark.parametrize("name", ALL)
def test_it_is_what_a_direct_call_gives(name):
    sequence = [jacobian(4, 9, seed) for seed in range(4)]
    theirs, generator = ALL[name](), torch.Generator().manual_seed(0)
    method = ready(FromTorchJD(ALL[name]()), sequence[0])
    assert method.gives_weights == (name not in DIRECTIONS and name != "graddrop")
    before = torch.get_rng_state()
    found = directions(method, sequence)
    assert torch.equal(before, torch.get_rng_state())
    for mine, rows in zip(found, sequence, strict=True):
        torch.manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
        torch.testing.assert_close(mine, theirs(rows), rtol=1e-9, atol=1e-12)
    torch.set_rng_state(before)


@pytest.mark.parametrize("name", DRAWING)
def test_draws_are_the_generators(name):
    rows = jacobian(4, 9)
    sequences = [directions(ready(FromTorchJD(DRAWING[name]()), rows, seed), [rows] * 3) for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(sequences[0], sequences[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(sequences[0], sequences[2], strict=True))


@pytest.mark.parametrize("name", ["pcgrad", "graddrop", "gradvac", "excess_mtl", "cr_mogm"])
@pytest.mark.parametrize("level", ["parameters", "features"])
def test_resumes_to_the_same_bits(name, level, tmp_path):
    def strategy():
        return GradientStrategy(FromTorchJD(ALL[name]()), level=level)

    tasks = tuple("abcd")

    def objective():
        return make_objective(tasks)

    batches = make_batches(tasks)
    straight, resumed = run_with_resume(strategy, objective, batches, adam, cut=3)
    assert distance(straight[0], resumed[0]) == 0
    assert same_state(straight[1].state_dict(), resumed[1].state_dict())
    save_checkpoint(tmp_path / "state", straight[1].state_dict())
    saved = load_checkpoint(tmp_path / "state")
    continued, other = copy.deepcopy(straight[1]), strategy()
    other.setup(continued.objective, adam, torch.Generator())
    other.load_state_dict(saved)
    assert same_state(other.state_dict()["maths"], straight[1].state_dict()["maths"])


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_matters(name):
    """Without it, a continued run is another one: the test above shows something."""
    rows = [jacobian(4, 9, seed) for seed in range(6)]
    first = directions(ready(FromTorchJD(STATEFUL[name]()), rows[0]), rows)[-1]
    assert (first - directions(ready(FromTorchJD(STATEFUL[name]()), rows[0]), rows[3:])[-1]).abs().max() > 1e-6


def test_a_state_that_cannot_be_saved_is_refused():
    from torchjd import Stateful

    class Solver(aggregation.Aggregator, Stateful):
        def __init__(self):
            super().__init__()
            self.problem = object()

        def reset(self):
            pass

        def forward(self, matrix):
            return matrix.sum(0)

    with pytest.raises(ConfigError, match=r"Solver cannot be saved: `problem` is of type object"):
        FromTorchJD(Solver())


@pytest.mark.parametrize("level", ["parameters", "features", "last_layer"])
def test_their_sum_is_ours(level):
    results = []
    for method in (FromTorchJD(aggregation.Sum()), Constant(1.0)):
        objective = make_objective()
        reports = train(GradientStrategy(method, level=level), objective, make_batches(), adam)
        assert reports[0].weights.tolist() == [1.0, 1.0, 1.0]
        results.append(parameters_of(objective))
    assert distance(*results) < 1e-12


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="Found `MGDAWeighting`"):
        FromTorchJD(aggregation.MGDAWeighting())
    with pytest.raises(ConfigError, match="cannot combine 3 tasks"):
        ready(FromTorchJD(aggregation.Krum(n_byzantine=1)), jacobian(3, 4))
    with pytest.raises(ConfigError, match="not defined at `level = last_layer`"):
        GradientStrategy(FromTorchJD(aggregation.ConFIG()), level="last_layer")
    with pytest.raises(ConfigError, match="gives a direction"):
        GradientStrategy(FromTorchJD(aggregation.ConFIG()), weights_every=2)


def test_another_one_from_the_command_line():
    inner = "strategy.aggregator.aggregator"
    strategy = build_strategy(
        "torchjd", f"{inner}._target_=torchjd.aggregation.IMTLG", f"~{inner}.beta", f"~{inner}.eps"
    )
    train(strategy, make_objective(), make_batches(count=1), adam)
    with pytest.raises(ConfigError, match="Unknown key `beta`"):
        build_strategy("torchjd", f"{inner}._target_=torchjd.aggregation.IMTLG")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ConfigError, match="torchjd, which is not installed"):
        build_spec(*compose_config(("strategy=torchjd",)))  # `build_strategy` may have it from another test
    with pytest.raises(ConfigError, match="torchjd, which is not installed"):
        FromTorchJD(torch.nn.Identity())


def test_importing_mtl_does_not_import_it():
    code = "import sys, mtl.config, mtl.strategies, mtl.aggregation; print('torchjd' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert out.stdout.strip() == "False"
