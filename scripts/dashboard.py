"""The project's W&B workspace: `python scripts/dashboard.py runs=DIR [out=FILE] [entity=E] [project=P] [upload=true]`.

Writes the workspace's specification as JSON. `upload=true` saves it at W&B (needs a key); `delta_m=true` adds Delta_m,
against the single-task runs in DIR, to the W&B summaries of the others. See docs/wandb.md.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from mtl.errors import ConfigError, UserError
from mtl.results.annotation import find_deltas
from mtl.results.dashboard import build_workspace, to_json
from mtl.results.runs import Run, load_runs
from mtl.tracking import TrackingSettings
from mtl.tracking.wandb import ID_FILE, annotate

KEYS = ("runs", "out", "entity", "project", "upload", "delta_m")
FLAGS = ("upload", "delta_m")


def parse(arguments: Sequence[str]) -> dict[str, str]:
    values = dict.fromkeys(FLAGS, "false")
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in KEYS or not separator or not value:
            raise ConfigError(f"Arguments should be KEY=VALUE with a KEY of {', '.join(KEYS)}. Found `{argument}`.")
        values[key] = value
    if "runs" not in values:
        raise ConfigError(f"Argument `runs=DIR` is missing. Valid arguments: {', '.join(KEYS)}.")
    for flag in FLAGS:
        if values[flag] not in ("true", "false"):
            raise ConfigError(f"`{flag}` should be true or false. Found `{values[flag]}`.")
    if values["upload"] == "true" and not values.get("entity"):
        raise ConfigError("`upload=true` needs `entity=NAME`: the W&B user or team that owns the workspace.")
    return values


def tracking_of(run: Run) -> TrackingSettings:
    """Project, entity and mode that the run was mirrored with."""
    stored = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))["tracking"]
    return TrackingSettings(mode=stored["mode"], project=stored["project"], entity=stored["entity"])


def main(arguments: Sequence[str]) -> None:
    values = parse(arguments)
    root = Path(values["runs"])
    runs = load_runs(root)
    project = values.get("project") or tracking_of(runs[0]).project
    workspace = build_workspace(runs, values.get("entity", ""), project)
    out = Path(values.get("out", root / "dashboard.json"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(to_json(workspace), indent=2) + "\n", encoding="utf-8")
    sections = ", ".join(f"{section.name} ({len(section.panels)})" for section in workspace.sections)
    print(f"Workspace of {len(runs)} runs, panels: {sections}. Written: {out}")
    if values["delta_m"] == "true":
        deltas = find_deltas(runs)
        mirrored = [run for run in runs if run.path in deltas and (run.path / ID_FILE).is_file()]
        for run in mirrored:
            annotate(run.path, tracking_of(run), deltas[run.path])
        print(f"Delta_m added to {len(mirrored)} of {len(deltas)} runs that have one (the others were not mirrored).")
    if values["upload"] == "true":
        print(f"Saved: {workspace.save().url}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"Error: {error}")
