"""The usual metrics of each kind of task, under the names of the published tables; the first one is the primary one."""

from functools import partial

from mtl.tasks.metrics.base import MakeMetric
from mtl.tasks.metrics.binary import F1, BinaryAccuracy, BinaryIoU, ErrorRate, Precision, Recall
from mtl.tasks.metrics.classification import MeanIoU, PixelAccuracy
from mtl.tasks.metrics.edges import OptimalF
from mtl.tasks.metrics.normals import MeanAngle, MedianAngle, WithinAngle
from mtl.tasks.metrics.regression import AbsoluteError, RelativeError


def segmentation_metrics(num_classes: int) -> dict[str, MakeMetric]:
    """`miou`, `pix_acc`."""
    return {"miou": partial(MeanIoU, num_classes), "pix_acc": partial(PixelAccuracy, num_classes)}


def mask_metrics() -> dict[str, MakeMetric]:
    """`iou`, `pix_acc` of a binary mask."""
    return {"iou": BinaryIoU, "pix_acc": BinaryAccuracy}


def depth_metrics(floor: float = 0.0) -> dict[str, MakeMetric]:
    """`abs_err`, `rel_err`, the latter with denominators of at least `floor` (see `RelativeError`)."""
    return {"abs_err": AbsoluteError, "rel_err": partial(RelativeError, floor=floor)}


def normals_metrics() -> dict[str, MakeMetric]:
    """`angle_mean`, `angle_median`, `within_11_25`, `within_22_5`, `within_30`."""
    return {
        "angle_mean": MeanAngle,
        "angle_median": MedianAngle,
        "within_11_25": partial(WithinAngle, 11.25),
        "within_22_5": partial(WithinAngle, 22.5),
        "within_30": partial(WithinAngle, 30.0),
    }


def edge_metrics() -> dict[str, MakeMetric]:
    """`ods_f`."""
    return {"ods_f": OptimalF}


def attribute_metrics() -> dict[str, MakeMetric]:
    """`f1`, `precision`, `recall`, `accuracy`, `error` of one attribute."""
    return {"f1": F1, "precision": Precision, "recall": Recall, "accuracy": BinaryAccuracy, "error": ErrorRate}
