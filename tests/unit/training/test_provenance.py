"""What makes two runs the same but for the seed."""

import copy

import pytest

from mtl.training.provenance import config_hash, setting_hash

CONFIG = {
    "dataset": {"data_dir": "/a", "prepared": None, "size": [8, 8], "eval_batch_size": 2, "legacy_metrics": False},
    "backbone": {"norm_eval": "running"},
    "strategy": {"_target_": "x"},
    "trainer": {"device": "cpu", "max_epochs": 1},
    "paths": {"data_dir": "/a", "output_dir": "/b"},
    "seed": 0,
}


def changed(**values):
    config = copy.deepcopy(CONFIG)
    for path, value in values.items():
        group, _, key = path.partition("__")
        config[group][key] = value
    return config


@pytest.mark.parametrize("digest", [config_hash, setting_hash])
def test_places_and_cuts_do_not_count_and_sizes_do(digest):
    elsewhere = changed(dataset__data_dir="/c", dataset__prepared="/d", paths__data_dir="/c", paths__output_dir="/e")
    assert digest(elsewhere) == digest(CONFIG)
    assert digest(changed(dataset__eval_batch_size=3)) == digest(CONFIG)
    assert digest(changed(dataset__size=[8, 9])) != digest(CONFIG)


@pytest.mark.parametrize("digest", [config_hash, setting_hash])
@pytest.mark.parametrize("switch", [{"dataset__legacy_metrics": True}, {"backbone__norm_eval": "batch"}])
def test_the_evaluation_batch_counts_where_results_depend_on_it(digest, switch):
    assert digest(changed(**switch)) != digest(changed(**switch, dataset__eval_batch_size=3))


@pytest.mark.parametrize(
    ("later", "other"), [(("trainer", "precision", "float32"), "bfloat16"), (("strategy", "ema", 0.0), 0.5)]
)
def test_runs_made_before_an_option_existed_keep_their_hash(later, other):
    """A key that a later version added, at the value that says what was before, makes no run a stranger."""
    group, key, before = later
    assert config_hash(changed(**{f"{group}__{key}": before})) == config_hash(CONFIG)
    assert config_hash(changed(**{f"{group}__{key}": other})) != config_hash(CONFIG)
