"""Metrics: sums that add up over batches (and processes), one number at the end of a split."""

from mtl.tasks.metrics.base import MakeMetric, Metric, MetricGroup, Statistics
from mtl.tasks.metrics.binary import F1, BinaryAccuracy, BinaryIoU, ErrorRate, Precision, Recall
from mtl.tasks.metrics.classification import Accuracy, MeanIoU, PixelAccuracy
from mtl.tasks.metrics.edges import OptimalF
from mtl.tasks.metrics.legacy import BatchMetric, LegacyBatchMean, with_legacy
from mtl.tasks.metrics.normals import MeanAngle, MedianAngle, WithinAngle
from mtl.tasks.metrics.regression import AbsoluteError, RelativeError, RootMeanSquaredError
from mtl.tasks.metrics.suites import (
    attribute_metrics,
    depth_metrics,
    edge_metrics,
    mask_metrics,
    normals_metrics,
    segmentation_metrics,
)

__all__ = [
    "F1",
    "AbsoluteError",
    "Accuracy",
    "BatchMetric",
    "BinaryAccuracy",
    "BinaryIoU",
    "ErrorRate",
    "LegacyBatchMean",
    "MakeMetric",
    "MeanAngle",
    "MeanIoU",
    "MedianAngle",
    "Metric",
    "MetricGroup",
    "OptimalF",
    "PixelAccuracy",
    "Precision",
    "Recall",
    "RelativeError",
    "RootMeanSquaredError",
    "Statistics",
    "WithinAngle",
    "attribute_metrics",
    "depth_metrics",
    "edge_metrics",
    "mask_metrics",
    "normals_metrics",
    "segmentation_metrics",
    "with_legacy",
]
