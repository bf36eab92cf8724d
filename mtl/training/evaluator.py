"""Evaluation of a model on a whole split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.datasets.base import Loader
from mtl.models.model import MultiTaskModel
from mtl.tasks import MetricGroup, TaskSpec


@torch.no_grad()
def evaluate(
    model: MultiTaskModel, specs: Sequence[TaskSpec], loader: Loader
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Metrics over every sample of the split, and mean losses, in evaluation mode.

    Returns:
        {task: {metric: value}} and {task: mean loss}. Metrics are of the split: they do not depend on the batch size
        beyond rounding, except those called legacy. A mean loss is the mean of the batch losses, weighted by their
        numbers of samples: where a batch loss is a mean over valid pixels (0 without any), it depends on the cut.
    """
    device = loader.split.device
    metrics = {spec.name: MetricGroup(spec.metrics, device) for spec in specs}
    losses = torch.zeros(len(specs), dtype=torch.float64, device=device)
    seen = 0
    was_training = model.training
    model.eval()
    for batch in loader.batches(epoch=0):
        features = model.features(batch.inputs)
        for index, spec in enumerate(specs):
            prediction, target = model.predict(features, spec.name), batch.targets[spec.name]
            losses[index] += spec.loss(prediction, target).double() * batch.num_samples
            metrics[spec.name].update(prediction, target)
        seen += batch.num_samples
    model.train(was_training)
    values = {task: group.compute() for task, group in metrics.items()}
    return values, dict(zip(values, (losses / max(seen, 1)).tolist(), strict=True))


@torch.no_grad()
def predict(model: MultiTaskModel, loader: Loader, samples: Sequence[int]) -> dict[str, Tensor]:
    """Predictions for single samples of an evaluation split, in evaluation mode.

    Each is made in the batch in which `evaluate` sees the sample, as some networks normalise over the batch.

    Args:
        model: The network.
        loader: Without shuffling.
        samples: Indices in the split, each smaller than its length.

    Returns:
        Task -> (len(samples), outputs, ...), on the CPU.
    """
    assert not loader.shuffle, "the order of a shuffled split is another one in every epoch"
    was_training = model.training
    model.eval()
    found: dict[str, list[Tensor]] = {task: [] for task in model.tasks}
    for sample in samples:
        batch = next(loader.batches(epoch=0, start=sample // loader.batch_size))
        for task, prediction in model(batch.inputs).items():
            found[task].append(prediction[sample % loader.batch_size].cpu())
    model.train(was_training)
    return {task: torch.stack(maps) for task, maps in found.items()}
