"""Every metric of every data set's tasks, on drawn predictions, against scikit-learn and NumPy, over drawn shards."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from mtl.datasets import CelebA, Cityscapes, NYUv2
from mtl.tasks import MetricGroup

CPU, FLOOR, DRAWS = torch.device("cpu"), 0.5, 12
LIMITS = {"11_25": 11.25, "22_5": 22.5, "30": 30.0}
SPECS = {
    f"{type(data).__name__} {data.tasks[0].num_outputs} {task.name}": task
    for data in (
        NYUv2("x", tasks=None, legacy_metrics=True),
        NYUv2("x", tasks=["segmentation"], num_classes=40),
        Cityscapes("x", tasks=None, num_classes=19, rel_err_floor=FLOOR),
        Cityscapes("x", tasks=["segmentation", "inverse_depth"], rel_err_floor=FLOOR, legacy_metrics=True),
        CelebA("x", tasks=["Smiling"]),
        CelebA("x", tasks=["Young"], outputs=2),
    )
    for task in data.tasks
}


def drawn(task, seed):
    """Predictions and targets of a split of 1 to 9 samples: with void or invalid pixels, and whole samples of them."""
    stream = np.random.RandomState(seed)
    count, height, width = stream.randint(1, 10), stream.randint(1, 9), stream.randint(1, 12)
    shape = (height, width) if task.dense else ()
    prediction = torch.from_numpy(stream.normal(size=(count, task.num_outputs, *shape)).astype(np.float32))
    void = stream.rand(count, *shape) < stream.choice([0, 0.3, 0.9])
    if task.dense:
        void[stream.randint(count)] = True
    if task.kind == "classification":
        classes = max(task.num_outputs, 2)
        present = stream.permutation(classes)[: stream.randint(1, classes + 1)]
        target = np.where(void & task.dense, -1, stream.choice(present, (count, *shape)))
        return prediction, torch.from_numpy(target.astype(np.int64))
    values = np.abs(stream.normal(size=(count, task.num_outputs, *shape))) + 0.1
    if task.name == "normals":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    values = np.where(void[:, None], stream.choice([0, np.nan, 1e9]), values)
    return prediction, torch.from_numpy(np.concatenate([values, ~void[:, None]], 1).astype(np.float32))


def expected(task, prediction, target):
    """Metric name -> value, legacy ones left out; None where nothing is valid."""
    prediction = prediction.numpy().astype(np.float64)
    target = target.numpy()
    if task.kind == "classification":
        keep = target != -1
        if not keep.any():
            return None
        if {"miou"} & task.metrics.keys():
            predicted, true = prediction.argmax(1)[keep], target[keep]
            ious = jaccard_score(true, predicted, labels=np.unique(true), average=None, zero_division=0)
            return {"miou": 100 * ious.mean(), "pix_acc": 100 * accuracy_score(true, predicted)}
        logits = prediction[:, 1] - prediction[:, 0] if task.num_outputs == 2 else prediction[:, 0]
        true = target[keep]
        probability = 1 / (1 + np.exp(-logits[keep]))
        if "ods_f" in task.metrics:
            best = max(f1_score(true, probability >= step / 100, zero_division=0) for step in range(1, 100))
            return {"ods_f": 100 * best if true.any() else math.nan}
        found = probability > 0.5
        scores = {
            "accuracy": accuracy_score(true, found),
            "error": 1 - accuracy_score(true, found),
            "precision": precision_score(true, found, zero_division=0),
            "recall": recall_score(true, found, zero_division=0),
            "f1": f1_score(true, found, zero_division=0),
            "iou": jaccard_score(true, found, zero_division=0) if true.any() else math.nan,
        }
        scores["pix_acc"] = scores["accuracy"]
        return {name: 100 * scores[name] for name in task.metrics}
    keep = np.broadcast_to(target[:, -1:] == 1, prediction.shape)
    if not keep.any():
        return None
    true = target[:, :-1].astype(np.float64)
    if task.name == "normals":
        prediction, true = (np.moveaxis(array, 1, -1)[keep[:, 0]] for array in (prediction, true))
        lengths = np.linalg.norm(prediction, axis=-1) * np.linalg.norm(true, axis=-1)
        angles = np.degrees(np.arccos(np.clip((prediction * true).sum(-1) / lengths, -1, 1)))
        below = {f"within_{name}": 100 * (angles < limit).mean() for name, limit in LIMITS.items()}
        return {"angle_mean": angles.mean(), "angle_median": np.median(angles), **below}
    error, true = np.abs(prediction - true)[keep], true[keep]
    floor = FLOOR if task.name in ("disparity", "inverse_depth") else 0
    return {"abs_err": error.mean(), "rel_err": (error / np.maximum(true, floor)).mean()}


@pytest.mark.parametrize("name", SPECS)
def test_exact_whatever_the_cut(name):
    """Shards are cut into batches of drawn sizes, merged in a drawn order; states of the same sums add up exactly."""
    task = SPECS[name]
    undefined = 0
    for seed in range(DRAWS):
        prediction, target = drawn(task, seed)
        stream = np.random.RandomState(100 + seed)
        cuts = np.sort(stream.choice(len(target) + 1, stream.randint(0, 4)))
        shards = []
        for rows in np.split(stream.permutation(len(target)), cuts):
            group = MetricGroup(task.metrics, CPU)
            for batch in np.array_split(rows, stream.randint(1, 4)):
                if len(batch):
                    group.update(prediction[batch], target[batch])
            shards.append(group)
        merged = MetricGroup(task.metrics, CPU)
        for number in stream.permutation(len(shards)):
            merged.merge(shards[number])
        whole = MetricGroup(task.metrics, CPU)
        whole.update(prediction, target)
        for statistics, same in zip(merged.statistics.values(), whole.statistics.values(), strict=True):
            if type(statistics).__name__ == "BatchMeans":  # a mean over batches depends on them
                continue
            for state, other in zip(statistics.states.values(), same.states.values(), strict=True):
                assert (
                    torch.equal(state, other)
                    if not state.is_floating_point()
                    else torch.allclose(state, other, rtol=1e-12, atol=0, equal_nan=True)
                )
        found = {metric: value for metric, value in merged.compute().items() if not metric.endswith("_legacy")}
        wanted = expected(task, prediction, target)
        if wanted is None:
            undefined += 1
            assert all(math.isnan(value) for value in found.values())
        else:
            wanted = {metric: wanted[metric] for metric in found}
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True), seed
    assert undefined < DRAWS
