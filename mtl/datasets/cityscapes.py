"""Cityscapes: segmentation, binary masks, instance offsets and disparity of street scenes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl.datasets.augment import Augmentation, Quantity
from mtl.datasets.base import select_tasks
from mtl.datasets.packed_split import Target
from mtl.datasets.prepared import NORMALISATIONS, Normalisation, PreparedData
from mtl.datasets.sources.cityscapes import CATEGORIES, category_of_class
from mtl.errors import ConfigError
from mtl.tasks import (
    IGNORE,
    AbsoluteError,
    BinaryCrossEntropy,
    DenseCrossEntropy,
    MakeMetric,
    MaskedL1,
    MaskedL2,
    TaskSpec,
    depth_metrics,
    mask_metrics,
    segmentation_metrics,
    with_legacy,
)
from mtl.validation import check_bool, check_choice, check_non_negative

MASKS = tuple(CATEGORIES)
CLASS_COUNTS = (2, 7, 19)
CLASS_NAMES = {
    7: ", ".join(MASKS),
    19: (
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
        "rider, car, truck, bus, train, motorcycle, bicycle"
    ),
}
"""Number of classes -> their names in stored order; what MTAN's 2 are is not published."""
REGRESSION_LOSSES: Mapping[str, type[MaskedL1] | type[MaskedL2]] = {"l1": MaskedL1, "l2": MaskedL2}


class Cityscapes(PreparedData):
    """Cityscapes, fine annotations (Cordts et al. 2016): 2975 training frames, the 500 of the official `val` as test.

    Has to be prepared once: `python scripts/prepare_data.py dataset=cityscapes source=DIR`.

    Inputs (B, 3, H, W) float32. Tasks and targets:

    - `segmentation` (B, H, W) int64, void -1: the 19 official trainIds, the 7 official categories, or 2 classes;
    - `flat`, `construction`, `object`, `nature`, `sky`, `human`, `vehicle` (B, H, W) int64 in {0, 1}: the binary
      masks of Pascal et al.; each is the evaluated classes of a category (road and sidewalk; building, wall, fence;
      pole, light, sign; vegetation and terrain; sky; person and rider; the six vehicles);
    - `instance` (B, 3, H, W): (y, x) offset from the pixel to the centroid of its instance in pixels of the raw frame
      (1024x2048), and validity: persons, riders and vehicles that are marked one by one;
    - `disparity` (B, 2, H, W): pixels of the raw frame, and validity;
    - `inverse_depth` (B, 2, H, W): the scale of MTAN's files, called depth in published tables, and validity.

    The official files give all but 2 classes (disparity and inverse depth if their tree is there); MTAN's files give
    `segmentation` and `inverse_depth`, and the masks if `label_19` is among them.

    Args:
        data_dir: Directory of all data sets, the value of MTL_DATA.
        prepared: Prepared directory; None for `<data_dir>/prepared/cityscapes-<H>x<W>`.
        size: [H, W]; 128x256 in the two-task tables and in Pascal et al., 256x512 in Sener and Koltun.
        tasks: Names out of the list above; None for all of them.
        num_classes: Of `segmentation`: 19, 7 (the two-task tables) or 2 (MTAN's files only).
        mask_void: Void pixels in the masks: `negative` (Pascal et al., released code: classes that are not evaluated
            are 0 in all seven masks) or `ignore`.
        regression_loss: Of `instance`, `disparity` and `inverse_depth`: `l1` (MTAN and its descendants; Sener and
            Koltun, released code) or `l2` (Sener and Koltun, paper).
        rel_err_floor: Smallest denominator of `rel_err`, in the unit of the task, >= 0. 0 is the published
            definition; true values near 0 then decide the mean, and `disparity`, where 0 is valid, can be infinite.
        val_size: Training frames set apart for validation, >= 0, the same for everyone: a stored permutation. Sener
            and Koltun hold 275 out; the two-task tables have none: 0.
        normalisation: `none` leaves RGB in [0, 1] (MTAN and its descendants, Pascal et al.); `imagenet`; `isl_org`
            reverses the channels and subtracts (123.675, 116.28, 103.53) / 255 from blue, green, red, as in the
            released code of Sener and Koltun (the numbers are those of red, green, blue).
        augmentation: Of the training split; None for none. A zoom multiplies disparity, inverse depth and offsets, a
            flip changes the sign of the x offset.
        legacy_metrics: Also report the per-batch means of regression metrics of older tables (`*_legacy`).
        batch_size: Training frames per batch, >= 1.
        eval_batch_size: Frames per batch in evaluation, >= 1; changes no result but legacy metrics.
        drop_last: Leave out a last, smaller training batch.

    **Deviations.** MTAN, CAGrad, FAMO: `inverse_depth` is called depth and divided by the zoom; ours multiplies, as a
    disparity has to be. How MTAN made its 7 classes and its inverse depth from the official files is not published:
    ours are the official categories and the 16-bit value / 65535. Sener and Koltun, released code: targets at 1/8 of
    the input (ours: at the input's size, as in the paper), rotation within 10 degrees (ours: not offered), the offset
    points from the centroid to the pixel, groups count as one instance, disparity is standardised with a per-pixel
    mean that is not published and then used only where it is above 0; their per-image contrast stretch is not done.
    Their disparity is divided by 2729.07 / 256 = 10.66 pixels: give `disparity` the weight 0.094 for that scale.
    """

    quantities: Mapping[str, Quantity] = {
        "segmentation": "labels",
        **dict.fromkeys(MASKS, "labels"),
        "instance": "offsets",
        "disparity": "disparity",
        "inverse_depth": "disparity",
    }
    normalisations: Mapping[str, Normalisation] = {
        **NORMALISATIONS,
        "isl_org": Normalisation((123.675 / 255, 116.28 / 255, 103.53 / 255), bgr=True),
    }

    def __init__(
        self,
        data_dir: str | Path,
        prepared: str | Path | None = None,
        size: Sequence[int] = (128, 256),
        tasks: Sequence[str] | None = ("segmentation", "inverse_depth"),
        num_classes: int = 7,
        mask_void: str = "negative",
        regression_loss: str = "l1",
        rel_err_floor: float = 0.0,
        val_size: int = 275,
        normalisation: str = "none",
        augmentation: Augmentation | None = None,
        legacy_metrics: bool = False,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            "cityscapes",
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
        if num_classes not in CLASS_COUNTS:
            raise ConfigError(f"Parameter `num_classes` should be 19, 7 or 2. Found `num_classes = {num_classes!r}`.")
        check_choice("mask_void", mask_void, ("negative", "ignore"))
        check_choice("regression_loss", regression_loss, REGRESSION_LOSSES)
        check_non_negative("rel_err_floor", rel_err_floor)
        check_bool("legacy_metrics", legacy_metrics)
        self.num_classes = num_classes
        self.classes = {"segmentation": tuple(CLASS_NAMES[num_classes].split(", "))} if num_classes > 2 else {}
        self.mask_void = mask_void
        every = cityscapes_tasks(num_classes, regression_loss, rel_err_floor, legacy_metrics)
        self.tasks = select_tasks(every, tasks)

    def targets(self) -> dict[str, Target]:
        """From `label<num_classes>`, `label19` for masks, and the field called as the task."""
        categories, void = category_of_class(), 0 if self.mask_void == "negative" else IGNORE
        every = {
            "segmentation": Target(f"label{self.num_classes}", "labels"),
            **{
                mask: Target("label19", "labels", tuple(int(name == mask) for name in categories), void=void)
                for mask in MASKS
            },
            **{name: Target(name, "values") for name in ("instance", "disparity", "inverse_depth")},
        }
        return {task.name: every[task.name] for task in self.tasks}


def cityscapes_tasks(
    num_classes: int, regression_loss: str, rel_err_floor: float, legacy_metrics: bool
) -> tuple[TaskSpec, ...]:
    """All eleven tasks; for the arguments see `Cityscapes`."""

    def regression(name: str, channels: int, metrics: Mapping[str, MakeMetric]) -> TaskSpec:
        metrics = with_legacy(metrics) if legacy_metrics else metrics
        return TaskSpec(name, channels, "regression", REGRESSION_LOSSES[regression_loss](), metrics, dense=True)

    classes = segmentation_metrics(num_classes)
    return (
        TaskSpec("segmentation", num_classes, "classification", DenseCrossEntropy(), classes, dense=True),
        *(TaskSpec(mask, 1, "classification", BinaryCrossEntropy(), mask_metrics(), dense=True) for mask in MASKS),
        regression("instance", 2, {"abs_err": AbsoluteError}),
        regression("disparity", 1, depth_metrics(rel_err_floor)),
        regression("inverse_depth", 1, depth_metrics(rel_err_floor)),
    )
