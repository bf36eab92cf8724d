"""Tasks: what a head has to predict, the loss it is trained with, the metrics it is judged by."""

from mtl.tasks.losses import CrossEntropy, Loss
from mtl.tasks.metrics import Accuracy, Metric
from mtl.tasks.spec import TaskSpec

__all__ = ["Accuracy", "CrossEntropy", "Loss", "Metric", "TaskSpec"]
