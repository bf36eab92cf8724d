"""The runs of a table as one small text file, so that a reader without the run directories can recompute it.

JSON lines. The first one holds what all runs share, and the arguments of the table; then one line a run: the fields of
its `summary.json` that tables read, and for runs that enter the table its evaluations (six digits), which the
equal-budget views need.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.errors import RunDirectoryError
from mtl.results.runs import Run, parse_run

FIELDS = (
    *("status", "message", "experiment", "dataset", "backbone", "heads", "strategy", "optimizer", "seed", "tasks"),
    *("metrics", "selection", "cost", "epochs", "steps", "git", "code", "versions", "note", "data_note", "data"),
    *("device", "num_threads", "config_hash", "setting_hash"),
)
DIGITS = 6


def write_records(
    file: Path, runs: Sequence[Run], root: Path, curves: Collection[Path], arguments: Sequence[str]
) -> None:
    """Write the runs of a table.

    Args:
        file: The file; its directory is made.
        runs: The runs, in the order of the lines.
        root: Run directories are written relative to it.
        curves: Directories of the runs whose evaluations are kept.
        arguments: Of the table's command line, without `runs` and `out`.
    """
    lines = [_summary(run, root) for run in runs]
    first = lines[0] if lines else {}
    shared = {key: first[key] for key in FIELDS if key in first and all(line.get(key) == first[key] for line in lines)}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as text:
        text.write(_line({"arguments": list(arguments), "shared": shared}))
        for run, line in zip(runs, lines, strict=True):
            own = {key: value for key, value in line.items() if key not in shared}
            text.write(_line(own | ({"evaluations": _curve(run)} if run.path in curves else {})))


def read_records(file: Path) -> tuple[list[Run], tuple[str, ...]]:
    """The runs of a file of `write_records`, and the arguments of its table.

    Raises:
        RunDirectoryError: The file is no such file.
    """
    try:
        first, *lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        shared, arguments = first["shared"], tuple(first["arguments"])
        paths = [Path(line["path"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{file} holds no runs of a table ({type(error).__name__}: {error}). Give a file that `page=true` wrote, "
            "or the directory above your runs."
        ) from error
    runs = []
    for path, line in zip(paths, lines, strict=True):
        run = parse_run(shared | line, path, str(file))
        events = ({"event": "evaluation", **evaluation} for evaluation in line.get("evaluations", ()))
        runs.append(Run(**{**run.__dict__, "recorded": tuple(events)}))
    return runs, arguments


def _summary(run: Run, root: Path) -> dict[str, Any]:
    """Fields of the summary, as JSON holds them."""
    path = run.path.relative_to(root) if run.path.is_relative_to(root) else run.path
    fields: dict[str, Any] = {key: getattr(run, key) for key in FIELDS}
    fields["tasks"] = {
        task: {name: {"higher_is_better": i.higher_is_better, "primary": i.primary} for name, i in infos.items()}
        for task, infos in run.tasks.items()
    }
    return {"path": path.as_posix(), **{key: value for key, value in fields.items() if value not in (None, "")}}


def _curve(run: Run) -> list[dict[str, Any]]:
    return [
        {"step": event["step"], "epoch": event["epoch"], "metrics": _short(event["metrics"])}
        for event in run.events("evaluation")
    ]


def _short(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _short(value) for key, value in node.items()}
    return float(f"{node:.{DIGITS}g}") if isinstance(node, float) else node


def _line(node: Mapping[str, Any]) -> str:
    return json.dumps(node, separators=(",", ":"), ensure_ascii=False) + "\n"
