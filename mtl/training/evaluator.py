"""Evaluation of a model on a whole split."""

from collections.abc import Sequence

import torch

from mtl.datasets.base import TensorLoader
from mtl.models.model import MultiTaskModel
from mtl.tasks import TaskSpec


@torch.no_grad()
def evaluate(
    model: MultiTaskModel, specs: Sequence[TaskSpec], loader: TensorLoader
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Metrics over every sample of the split, and mean losses, in evaluation mode.

    Returns:
        {task: {metric: value}} and {task: mean loss}. Neither depends on the batch size beyond rounding.
    """
    device = loader.split.inputs.device
    metrics = {spec.name: {name: make(device) for name, make in spec.metrics.items()} for spec in specs}
    losses = torch.zeros(len(specs), dtype=torch.float64, device=device)
    seen = 0
    was_training = model.training
    model.eval()
    for batch in loader.batches(epoch=0):
        features = model.features(batch.inputs)
        for index, spec in enumerate(specs):
            prediction, target = model.predict(features, spec.name), batch.targets[spec.name]
            losses[index] += spec.loss(prediction, target).double() * batch.num_samples
            for metric in metrics[spec.name].values():
                metric.update(prediction, target)
        seen += batch.num_samples
    model.train(was_training)
    values = {task: {name: metric.compute() for name, metric in own.items()} for task, own in metrics.items()}
    return values, dict(zip(values, (losses / max(seen, 1)).tolist(), strict=True))
