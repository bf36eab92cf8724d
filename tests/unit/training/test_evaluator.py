"""Evaluation of dense tasks: exact over the split, fresh each time, and not upset by a batch without a valid pixel."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mtl.datasets.base import Loader, TensorSplit
from mtl.models.model import MultiTaskModel
from mtl.tasks import (
    CosineLoss,
    DenseCrossEntropy,
    MeanIoU,
    TaskSpec,
    normals_metrics,
    segmentation_metrics,
)
from mtl.training.evaluator import evaluate
from tests.unit.tasks import slow
from tests.unit.tasks.test_metrics import C, H, N, W, normals, segmentation

SPECS = (
    TaskSpec("segmentation", C, "classification", DenseCrossEntropy(), segmentation_metrics(C), dense=True),
    TaskSpec("normals", 3, "regression", CosineLoss(), normals_metrics(), dense=True),
)


def model_and_split():
    torch.manual_seed(0)
    inputs = torch.randn(N, 4, H, W)
    seg, nor = segmentation()[1], normals()[1]
    seg[4] = -1  # the fifth image is void for both tasks
    heads = {"segmentation": nn.Conv2d(6, C, 1), "normals": nn.Conv2d(6, 3, 1)}
    return MultiTaskModel(nn.Conv2d(4, 6, 3, padding=1), heads), TensorSplit(
        inputs, {"segmentation": seg, "normals": nor}
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4, N])
def test_metrics_are_exact_over_the_split_at_any_batch_size(batch_size):
    model, split = model_and_split()
    values, losses = evaluate(model, SPECS, Loader(split, batch_size, shuffle=False, drop_last=False))
    with torch.no_grad():
        predictions = {task: p.numpy() for task, p in model(split.inputs).items()}
    targets = {task: t.numpy() for task, t in split.targets.items()}
    angles = slow.angles(predictions["normals"], targets["normals"])
    assert values["segmentation"] == pytest.approx(
        {
            "miou": slow.miou(predictions["segmentation"], targets["segmentation"], C),
            "pix_acc": slow.pixel_accuracy(predictions["segmentation"], targets["segmentation"]),
        },
        rel=1e-6,
    )
    assert values["normals"]["angle_mean"] == pytest.approx(angles.mean(), rel=1e-6)
    assert values["normals"]["angle_median"] == pytest.approx(np.median(angles), rel=1e-6)
    assert all(np.isfinite(loss) for loss in losses.values())


def test_a_second_evaluation_knows_nothing_of_the_first():
    model, split = model_and_split()
    loader = Loader(split, 3, shuffle=False, drop_last=False)
    assert evaluate(model, SPECS, loader) == evaluate(model, SPECS, loader)


def test_directions_of_a_spec():
    normals_spec = SPECS[1]
    assert normals_spec.primary_metric == "angle_mean"
    assert [normals_spec.higher_is_better(name) for name in normals_spec.metrics] == [False, False, True, True, True]
    assert TaskSpec("s", C, "classification", DenseCrossEntropy(), {"miou": partial(MeanIoU, C)}).dense is False
