"""The project's W&B workspace as code: its panels for a set of runs. Built from run directories, without a server."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mtl.errors import ConfigError, UserError
from mtl.results.runs import Run
from mtl.tracking.mirror_rows import PAIRS_UP_TO

NAME = "mtl: methods, conflicts, weights"
STRATEGY, HASH = "names.strategy", "config_hash"
LAYERS_UP_TO = 24
"""Panels of update shares, one a layer; of more layers the first and the last ones are shown."""
NOTES = """Delta_m: percent, positive = better than single-task training; `scripts/dashboard.py runs=DIR delta_m=true`
writes it. Best values are chosen on the validation split, by the direction of each metric. Names and definitions:
docs/wandb.md. Tables and figures for papers come from the run directories, not from here."""


def build_workspace(runs: Sequence[Run], entity: str, project: str) -> Any:
    """A `wandb_workspaces.workspaces.Workspace` with the panels that `runs` have data for; nothing is uploaded.

    Args:
        runs: Of the tasks, metrics, layers and groupings to show.
        entity: W&B user or team.
        project: W&B project.

    Raises:
        ConfigError: wandb-workspaces is not installed.
        UserError: there are no runs.
    """
    if not runs:
        raise UserError("A dashboard needs at least one run to know tasks and metrics from. Found none.")
    ws, _, expr = _libraries()
    found = Content(runs)
    sections = [
        ws.Section(name=name, panels=panels, is_open=index < 2)
        for index, (name, panels) in enumerate(
            (
                ("Results", _results(found)),
                ("Tasks", _tasks(found)),
                ("Weights", _weights(found)),
                ("Conflicts", _conflicts(found)),
                ("Updates", _updates(found)),
                ("Groups and affinities", _groups(found)),
            )
        )
        if panels
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="Step", max_runs=50),
        runset_settings=ws.RunsetSettings(groupby=[expr.Config(STRATEGY), expr.Config(HASH)]),
    )


def to_json(workspace: Any) -> dict[str, Any]:
    """What would be sent to W&B: name, place and specification of the view."""
    view = workspace._to_model()  # the library has no public way to look at it
    spec: dict[str, Any] = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"entity": view.entity, "project": view.project, "name": view.display_name, "spec": spec}


class Content:
    """What a set of runs has data for.

    Attributes:
        metrics: Task -> its metrics, the primary one first; tasks in order of appearance.
        splits: Of `val` and `test`, those evaluated; `val` first.
        deltas: Delta_m's summary names, one for each definition that differs.
        layers: Of which update shares were recorded, from input to output.
        has: Keys of `step` and `diagnostics` events that occur.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.metrics: dict[str, list[str]] = {}
        self.layers: list[str] = []
        self.has: set[str] = set()
        for run in sorted(runs, key=lambda run: -run.num_tasks):
            for task, metrics in run.tasks.items():
                self.metrics.setdefault(task, sorted(metrics, key=lambda name: not metrics[name].primary))
            for kind in ("step", "diagnostics"):
                event = next(iter(run.events(kind)), {})
                self.has |= set(event)
                self.layers += [layer for layer in event.get("update_share", {}) if layer not in self.layers]
        splits = {split for run in runs for split in run.metrics}
        self.splits = [split for split in ("val", "test") if split in splits] or ["val"]
        several = any(len(metrics) > 1 for metrics in self.metrics.values())
        self.deltas = ["delta_m/task_mean", "delta_m/metric_mean"] if several else ["delta_m"]

    @property
    def tasks(self) -> list[str]:
        """Names of all tasks."""
        return list(self.metrics)


def _libraries() -> tuple[Any, Any, Any]:
    try:
        import wandb_workspaces.expr as expr
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            "The dashboard needs the package wandb-workspaces. Install it with `pip install 'mtl[dashboard]'`."
        ) from error
    return ws, wr, expr


def _line(title: str, y: Iterable[str] = (), x: str = "step", regex: str | None = None) -> Any:
    """Mean and range over the runs of a group, each metric a line."""
    _, wr, _ = _libraries()
    return wr.LinePlot(
        title=title, x=x, y=list(y), metric_regex=regex, groupby_aggfunc="mean", groupby_rangefunc="minmax"
    )


def _results(found: Content) -> list[Any]:
    """Delta_m against cost, and the primary metrics of two tasks against each other."""
    _, wr, _ = _libraries()
    costs = {"train_cpu_seconds": "CPU seconds of training", "backbone_backwards": "backbone backward passes"}
    panels = [
        wr.ScatterPlot(
            title=f"{name} (%) against {label}", x=wr.SummaryMetric(f"cost/{cost}"), y=wr.SummaryMetric(name)
        )
        for name in found.deltas
        for cost, label in costs.items()
    ]
    panels.append(
        wr.BarPlot(title="Delta_m (%)", metrics=found.deltas, groupby=wr.Config(STRATEGY), groupby_aggfunc="mean")
    )
    if len(found.tasks) == 2:
        split = found.splits[-1]
        first, second = (f"selected/{split}/{task}/{metrics[0]}" for task, metrics in found.metrics.items())
        panels.append(
            wr.ScatterPlot(
                title=f"{found.tasks[0]} against {found.tasks[1]}, {split}",
                x=wr.SummaryMetric(first),
                y=wr.SummaryMetric(second),
            )
        )
    return [*panels, wr.MarkdownPanel(markdown=NOTES)]


def _tasks(found: Content) -> list[Any]:
    """Curves of every task: its metrics on each split, and its losses."""
    panels = []
    for task, metrics in found.metrics.items():
        panels += [
            _line(f"{task}: {metric}, {split}", [f"eval/metrics/{split}/{task}/{metric}"], x="epoch")
            for split in found.splits
            for metric in metrics
        ]
        splits = ("train", *found.splits)
        panels.append(_line(f"{task}: loss", [f"eval/losses/{split}/{task}" for split in splits], x="epoch"))
    return panels


def _weights(found: Content) -> list[Any]:
    panels = []
    if "weights" in found.has:
        panels.append(_line("task weights", [f"train/weights/{task}" for task in found.tasks]))
    if "gradient_norms" in found.has:
        source = "diagnostics" if "cosines" in found.has else "train"
        panels.append(_line("gradient norms", [f"{source}/gradient_norms/{task}" for task in found.tasks]))
    return panels


def _conflicts(found: Content) -> list[Any]:
    _, wr, _ = _libraries()
    if "cosines" not in found.has:
        return []
    panels = [
        wr.MediaBrowser(title="conflicts over the run", media_keys=["pairs/conflicts"], num_columns=4),
        wr.MediaBrowser(title="mean cosines", media_keys=["pairs/cosine"], num_columns=4),
        _line("conflict rate", ["diagnostics/conflict_rate"]),
        _line("cosines: mean and least", ["diagnostics/cosines_mean", "diagnostics/cosines_least"]),
        _line("magnitude similarity: mean", ["diagnostics/magnitude_similarity_mean"]),
        _line("condition number", ["diagnostics/condition_number"]),
        _line("angle to the uniform update (degrees)", ["diagnostics/angle_to_uniform"]),
    ]
    if len(found.tasks) <= PAIRS_UP_TO:
        panels.insert(2, _line("cosine of each pair", regex="diagnostics/cosines/.*"))
    return panels


def _updates(found: Content) -> list[Any]:
    panels = []
    if "path_length" in found.has:
        panels.append(_line("path and displacement", ["diagnostics/path_length", "diagnostics/displacement"]))
    if "update_norm" in found.has:
        panels.append(_line("length of the update", ["diagnostics/update_norm"]))
    layers = found.layers
    if len(found.tasks) > PAIRS_UP_TO:
        layers = []  # shares of that many tasks are not mirrored
    elif len(layers) > LAYERS_UP_TO:
        layers = [*layers[: LAYERS_UP_TO // 2], *layers[-(LAYERS_UP_TO // 2) :]]
    panels += [
        _line(f"share of each task in the update of {layer}", regex=f"diagnostics/update_share/{re.escape(layer)}/.*")
        for layer in layers
    ]
    return panels


def _groups(found: Content) -> list[Any]:
    _, wr, _ = _libraries()
    panels = []
    if "groups" in found.has:
        panels.append(_line("number of groups", ["train/diagnostics/num_groups"]))
    if "affinity" in found.has:
        panels.append(wr.MediaBrowser(title="affinities at the end", media_keys=["pairs/affinity"], num_columns=4))
        panels.append(_line("affinities: mean", ["diagnostics/affinity_mean"]))
        if len(found.tasks) <= PAIRS_UP_TO:
            panels.append(_line("affinity of each pair", regex="diagnostics/affinity/.*"))
    return panels
