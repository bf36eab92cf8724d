"""CelebA: forty yes-or-no attributes of faces."""

from collections.abc import Sequence
from pathlib import Path

from mtl.datasets.base import select_tasks
from mtl.datasets.packed_split import Target
from mtl.datasets.prepared import NORMALISATIONS, Normalisation, PreparedData
from mtl.datasets.sources.celeba import ATTRIBUTES
from mtl.errors import ConfigError
from mtl.tasks import BinaryCrossEntropy, TaskSpec, attribute_metrics
from mtl.validation import check_choice


class CelebA(PreparedData):
    """CelebA (Liu et al. 2015), aligned images, official partition: 162,770 training, 19,867 validation, 19,962 test.

    Has to be prepared once: `python scripts/prepare_data.py dataset=celeba source=DIR`.

    Inputs (B, 3, H, W) float32; targets (B,) int64 in {0, 1}, one task per attribute, called as in the official list
    and in its order. Metrics of a task: `f1`, `precision`, `recall`, `accuracy`, `error`, in percent over the split.

    Args:
        data_dir: Directory of all data sets, the value of MTL_DATA.
        prepared: Prepared directory; None for `<data_dir>/prepared/celeba-<H>x<W>`.
        size: [H, W]; 64x64 in all protocols known to us.
        tasks: Names of attributes; None for all 40.
        outputs: 1, a logit with sigmoid cross-entropy (FAMO, Pascal et al.), or 2, a two-way softmax (Sener and
            Koltun; its cross-entropy is the sigmoid cross-entropy of the difference of the two).
        primary_metric: The metric that selection and summary tables use: `f1` (FAMO), `error` or `accuracy` (Sener and
            Koltun), `precision`, `recall`.
        normalisation: `none` leaves RGB in [0, 1] (FAMO, Pascal et al.); `imagenet`; `isl_org` reverses the channels
            and subtracts (73.158, 82.909, 72.392) / 255 from blue, green, red, as in the released code of Sener and
            Koltun, without its contrast stretch of every image.
        batch_size: Training images per batch, >= 1; 256 in all protocols known to us but one.
        eval_batch_size: Images per batch in evaluation, >= 1; changes no result.
        drop_last: Leave out a last, smaller training batch (Pascal et al.).

    **Deviations.** FAMO measures single-task baselines with BatchNorm in training mode; ours evaluates all runs by one
    code path. No protocol augments; ours neither. Groups of attributes belong to the strategy.
    """

    quantities = {}  # noqa: RUF012 - nothing is augmented
    normalisations = {  # noqa: RUF012 - a constant
        **NORMALISATIONS,
        "isl_org": Normalisation((73.15835921 / 255, 82.90891754 / 255, 72.39239876 / 255), bgr=True),
    }

    def __init__(
        self,
        data_dir: str | Path,
        prepared: str | Path | None = None,
        size: Sequence[int] = (64, 64),
        tasks: Sequence[str] | None = None,
        outputs: int = 1,
        primary_metric: str = "f1",
        normalisation: str = "none",
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            "celeba", data_dir, prepared, size, 0, normalisation, None, batch_size, eval_batch_size, drop_last
        )
        if outputs not in (1, 2) or isinstance(outputs, bool):
            raise ConfigError(f"Parameter `outputs` should be 1 or 2. Found `outputs = {outputs!r}`.")
        metrics = attribute_metrics()
        check_choice("primary_metric", primary_metric, metrics)
        metrics = {primary_metric: metrics.pop(primary_metric), **metrics}
        loss = BinaryCrossEntropy()
        self.tasks = select_tasks(
            [TaskSpec(name, outputs, "classification", loss, metrics) for name in ATTRIBUTES], tasks
        )

    def targets(self) -> dict[str, Target]:
        """A column of the attributes each."""
        columns = {name: position for position, name in enumerate(ATTRIBUTES)}
        return {task.name: Target("attributes", "attribute", column=columns[task.name]) for task in self.tasks}
