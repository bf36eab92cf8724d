"""Settings of the record, its W&B mirror and the progress display."""

from dataclasses import dataclass, field

from mtl.validation import check_bool, check_choice, check_count

MODES = ("auto", "online", "offline", "disabled")


@dataclass
class DiagnosticsSettings:
    """What is measured of task gradients and updates beside training. See configs/tracking/jsonl.yaml."""

    every: int | str | None = None
    path: bool = False
    shares: str = "gradients"

    def __post_init__(self) -> None:
        if isinstance(self.every, str):
            check_choice("tracking.diagnostics.every", self.every, ("auto",))
        elif self.every is not None:
            check_count("tracking.diagnostics.every", self.every)
        check_bool("tracking.diagnostics.path", self.path)
        check_choice("tracking.diagnostics.shares", self.shares, ("gradients", "updates"))


@dataclass
class TrackingSettings:
    """What is recorded and shown. See configs/tracking/*.yaml."""

    wandb: bool = False
    mode: str = "auto"
    project: str = "mtl"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    log_every_steps: int = 20
    progress: str = "auto"
    diagnostics: DiagnosticsSettings = field(default_factory=DiagnosticsSettings)

    def __post_init__(self) -> None:
        check_bool("tracking.wandb", self.wandb)
        check_choice("tracking.mode", self.mode, MODES)
        check_count("tracking.log_every_steps", self.log_every_steps)
        check_choice("tracking.progress", self.progress, ("auto", "bar", "lines", "none"))
