"""The same jobs are the same sweep, in whatever order a command line names them."""

import itertools

import pytest

from mtl.config.identity import sweep_name

WORDS = ["strategy=uniform,mgda", "seed=0,1,2", "optimizer.lr=0.1"]


def test_order_and_launcher_do_not_matter():
    names = {sweep_name(list(words), []) for words in itertools.permutations(WORDS)}
    names.add(sweep_name(["strategy=mgda,uniform", "seed=2,0,1", "optimizer.lr=0.1"], []))
    names.add(sweep_name(["seed=5", "strategy=mgda,uniform", "seed=range(0,3)", "optimizer.lr=0.1"], []))
    names.add(sweep_name(WORDS, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=x"]))
    assert len(names) == 1
    assert names.pop().startswith("seed_strategy-")


@pytest.mark.parametrize(
    "other",
    [
        ["strategy=uniform,mgda", "seed=0,1,2", "optimizer.lr=0.2"],
        ["strategy=uniform,mgda", "seed=0,1", "optimizer.lr=0.1"],
        ["strategy=uniform,mgda", "seed=0,1,2", "+optimizer.lr=0.1"],
        ["strategy=uniform,mgda", "seed=0,1,2"],
        ["strategy=glob(*)", "seed=0,1,2", "optimizer.lr=0.1"],
    ],
)
def test_other_jobs_are_another_sweep(other):
    assert sweep_name(other, []) != sweep_name(WORDS, [])


def test_parameters_of_the_sweeper_matter():
    assert sweep_name(WORDS, ["hydra.sweeper.params={seed:'0,1'}"]) != sweep_name(WORDS, [])


def test_where_the_order_of_overrides_has_a_meaning_it_is_kept():
    whole, part = "optimizer={lr:1}", "optimizer.lr=2"
    assert sweep_name([whole, part], []) != sweep_name([part, whole], [])


def test_a_table_gives_its_name():
    assert sweep_name(["sweep=sener2018/multimnist", "seed=0,1"], []).startswith("sener2018_multimnist-")
    assert sweep_name(["seed=0"], []).startswith("job-")
