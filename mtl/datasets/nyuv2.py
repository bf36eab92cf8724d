"""NYU Depth v2: segmentation, depth, normals and edges of indoor scenes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl.datasets.augment import Augmentation, Quantity
from mtl.datasets.base import select_tasks
from mtl.datasets.packed_split import Target
from mtl.datasets.prepared import PreparedData
from mtl.errors import ConfigError
from mtl.tasks import (
    BalancedBinaryCrossEntropy,
    CosineLoss,
    DenseCrossEntropy,
    MakeMetric,
    MaskedL1,
    TaskSpec,
    depth_metrics,
    edge_metrics,
    normals_metrics,
    segmentation_metrics,
    with_legacy,
)
from mtl.validation import check_bool

CLASS_NAMES = {
    13: "bed, books, ceiling, chair, floor, furniture, objects, picture, sofa, table, tv, wall, window",
    40: (
        "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, "
        "shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refrigerator, television, "
        "paper, towel, shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag, "
        "other structure, other furniture, other prop"
    ),
}
"""Number of classes -> their names in stored order."""


class NYUv2(PreparedData):
    """NYU Depth v2, labelled part (Silberman et al. 2012): 795 training and 654 test frames of the official split.

    Has to be prepared once: `python scripts/prepare_data.py dataset=nyuv2 source=DIR`. Results on a set that was not
    made from the official file carry the manifest's note, for example "NYUv2 (JPEG, 8-bit depth, pseudo normals)",
    and are not comparable with published rows.

    Inputs (B, 3, H, W) float32; targets: `segmentation` (B, H, W) int64, void -1; `depth` (B, 2, H, W) metres and
    validity; `normals` (B, 4, H, W) unit vectors (x first) and validity; `edges` (B, H, W) int64 in {0, 1}, void -1:
    pixels next to another class.

    Args:
        data_dir: Directory of all data sets, the value of MTL_DATA.
        prepared: Prepared directory; None for `<data_dir>/prepared/nyuv2-<H>x<W>`.
        size: [H, W]; 288x384 in MTAN and its descendants.
        tasks: Names out of `segmentation`, `depth`, `normals`, `edges`; None for all four.
        num_classes: 13 (MTAN and its descendants) or 40 (NYUD; another benchmark).
        val_size: Training frames set apart for validation, >= 0, the same for everyone; 0 trains on all 795 as the
            published protocols do, which have no validation split. Frames of one scene can fall on both sides, so
            it is a weaker test than the official split, whose scenes are disjoint.
        normalisation: `none` leaves RGB in [0, 1] (MTAN, CAGrad, Nash-MTL, FAMO); `imagenet` subtracts ImageNet's mean
            and divides by its standard deviation (for pretrained backbones).
        augmentation: Of the training split; null for none (the MTAN paper, LibMTL's ResNet table).
        legacy_metrics: Also report the per-batch means of depth and normals of older tables (`*_legacy`); they depend
            on `eval_batch_size`, 2 in those tables.
        batch_size: Training frames per batch, >= 1; 2 in CAGrad, Nash-MTL, FAMO.
        eval_batch_size: Frames per batch in evaluation, >= 1; changes no result but legacy metrics.
        drop_last: Leave out a last, smaller training batch.

    **Deviations.** Published codes read MTAN's `.npy` files, whose preprocessing is lost (mtan issue 10), call the
    test split `val` and have no validation split. Ours: also from the official file; the test split is called test.
    """

    quantities: Mapping[str, Quantity] = {
        "segmentation": "labels",
        "depth": "depth",
        "normals": "normals",
        "edges": "labels",
    }

    def __init__(
        self,
        data_dir: str | Path,
        prepared: str | Path | None = None,
        size: Sequence[int] = (288, 384),
        tasks: Sequence[str] | None = ("segmentation", "depth", "normals"),
        num_classes: int = 13,
        val_size: int = 80,
        normalisation: str = "none",
        augmentation: Augmentation | None = None,
        legacy_metrics: bool = False,
        batch_size: int = 2,
        eval_batch_size: int = 8,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            "nyuv2",
            data_dir,
            prepared,
            size,
            val_size,
            normalisation,
            augmentation,
            batch_size,
            eval_batch_size,
            drop_last,
        )
        check_class_set(num_classes)
        check_bool("legacy_metrics", legacy_metrics)
        self.num_classes = num_classes
        self.classes = {"segmentation": tuple(CLASS_NAMES[num_classes].split(", "))}
        self.tasks = select_tasks(nyuv2_tasks(num_classes, legacy_metrics), tasks)

    def targets(self) -> dict[str, Target]:
        """From `label13` or `label40`, `depth`, `normals`."""
        labels = f"label{self.num_classes}"
        every = {
            "segmentation": Target(labels, "labels"),
            "depth": Target("depth", "values"),
            "normals": Target("normals", "directions"),
            "edges": Target(labels, "edges"),
        }
        return {task.name: every[task.name] for task in self.tasks}


def nyuv2_tasks(num_classes: int, legacy_metrics: bool) -> tuple[TaskSpec, ...]:
    """The four tasks with the losses of MTAN: cross-entropy, L1 and 1 - cosine over what is valid."""

    def metrics(own: Mapping[str, MakeMetric]) -> Mapping[str, MakeMetric]:
        return with_legacy(own) if legacy_metrics else own

    return (
        TaskSpec(
            "segmentation",
            num_classes,
            "classification",
            DenseCrossEntropy(),
            segmentation_metrics(num_classes),
            dense=True,
        ),
        TaskSpec("depth", 1, "regression", MaskedL1(), metrics(depth_metrics()), dense=True),
        TaskSpec("normals", 3, "regression", CosineLoss(), metrics(normals_metrics()), dense=True),
        TaskSpec("edges", 1, "classification", BalancedBinaryCrossEntropy(), edge_metrics(), dense=True),
    )


def check_class_set(num_classes: object) -> None:
    """Raise ConfigError unless it is 13 or 40."""
    if num_classes not in (13, 40):
        raise ConfigError(f"Parameter `num_classes` should be 13 or 40. Found `num_classes = {num_classes!r}`.")
