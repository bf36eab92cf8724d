"""bfloat16 for the backbone: what stays float32, and that training still follows the float32 path."""

import pytest
import torch

from mtl.errors import ConfigError
from mtl.training.provenance import config_hash, setting_hash
from tests.problems import build_strategy, fast_warmup, make_batches, make_objective, parameters_of, sgd, train


def trained(name, precision):
    objective = make_objective(dtype=torch.float32, batch_norm=True)
    objective.model.use_precision(precision)
    reports = train(build_strategy(name, *fast_warmup(name)), objective, make_batches(dtype=torch.float32), sgd)
    return objective, reports


@pytest.mark.parametrize("name", ["uniform", "mgda", "mgda_ub", "pcgrad", "igd_per_task", "mao", "cagrad", "rotograd"])
def test_training_follows_float32_up_to_the_precision_of_bfloat16(name):
    """Away from the start by less than a tenth of the way that training goes, and not on the same path to the bit."""
    start = parameters_of(make_objective(dtype=torch.float32, batch_norm=True))
    (full, _), (half, reports) = trained(name, "float32"), trained(name, "bfloat16")
    ends = [torch.cat([p.flatten() for p in parameters_of(found).values()]) for found in (full, half)]
    moved = (ends[0] - torch.cat([p.flatten() for p in start.values()])).norm()
    assert 0 < (ends[0] - ends[1]).norm() < 0.1 * moved
    assert all(report.losses.dtype == torch.float32 for report in reports)


def test_features_predictions_and_gradients_are_float32():
    objective = make_objective(dtype=torch.float32)
    objective.model.use_precision("bfloat16")
    evaluation = objective.evaluate(make_batches(dtype=torch.float32, count=1)[0])
    sum(evaluation.losses).backward()
    dtypes = {p.grad.dtype for p in objective.model.parameters()}
    assert dtypes == {torch.float32}
    assert {z.dtype for z in evaluation.features} == {torch.float32}
    assert {loss.dtype for loss in evaluation.losses} == {torch.float32}


def test_the_backbone_computes_in_bfloat16():
    objective = make_objective(dtype=torch.float32)
    seen = []
    objective.model.backbone.last.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    batch = make_batches(dtype=torch.float32, count=1)[0]
    for precision in ("float32", "bfloat16"):
        objective.model.use_precision(precision)
        objective.evaluate(batch)
    assert seen == [torch.float32, torch.bfloat16]


def test_unknown_precisions_are_refused():
    with pytest.raises(ConfigError, match="bfloat16"):
        make_objective().model.use_precision("float16")


def test_hashes_of_runs_from_before_stay_and_bfloat16_has_its_own():
    before = {"dataset": {"_target_": "a", "b": None}, "trainer": {"max_epochs": 1}}
    now = {**before, "trainer": {"max_epochs": 1, "compile": True, "precision": "float32"}}
    other = {**before, "trainer": {"max_epochs": 1, "compile": False, "precision": "bfloat16"}}
    for function in (config_hash, setting_hash):
        assert function(before) == function(now) != function(other)
    assert config_hash(before) != config_hash({**before, "dataset": {"_target_": "a"}})
