"""Settings of the trainer loop."""

from dataclasses import dataclass

from mtl.errors import ConfigError
from mtl.models.model import PRECISIONS
from mtl.validation import check_bool, check_choice, check_count

SELECTIONS = ("last", "best_val", "mean_last_10")


@dataclass
class TrainerSettings:
    """How long to train, when to look, where to run. See configs/trainer/default.yaml."""

    max_epochs: int = 20
    max_steps: int | None = None
    eval_every_epochs: int = 1
    selection: str = "last"
    checkpoint_every_steps: int | None = None
    device: str = "auto"
    num_threads: int | None = None
    deterministic: bool = True
    compile: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_count("trainer.max_epochs", self.max_epochs)
        check_count("trainer.eval_every_epochs", self.eval_every_epochs)
        for name in ("max_steps", "checkpoint_every_steps", "num_threads"):
            value = getattr(self, name)
            if value is not None:
                check_count(f"trainer.{name}", value)
        check_choice("trainer.selection", self.selection, SELECTIONS)
        check_bool("trainer.deterministic", self.deterministic)
        check_bool("trainer.compile", self.compile)
        check_choice("trainer.precision", self.precision, PRECISIONS)
        if self.device not in ("auto", "cpu", "cuda") and not (
            self.device.startswith("cuda:") and self.device[5:].isdigit()
        ):
            raise ConfigError(
                "Parameter `trainer.device` should be auto, cpu, cuda or cuda:N. "
                f"Found `trainer.device = {self.device}`."
            )
