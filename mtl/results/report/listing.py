"""The sections that list runs: those that did not complete, and all of them."""

from markupsafe import Markup

from mtl.results.report.glyphs import name
from mtl.results.report.markup import breakable, tag
from mtl.results.report.material import Material, Section
from mtl.results.report.numbers import NONE, counted, fixed
from mtl.results.report.tables import Entry, Head, sortable
from mtl.results.runs import Run


def lost_section(material: Material) -> Section | None:
    """Diverged and failed runs with what they said."""
    found = [run for run in material.runs if not run.completed]
    if not found:
        return None
    owners = _owners(material)
    heads = [
        Head("method", text=True),
        Head("seed"),
        Head("status", text=True),
        Head("message", text=True),
        Head("steps"),
        Head("directory", text=True),
    ]
    lines = []
    for run in found:
        look = material.looks[owners[run.path]]
        cells = [
            Entry(name(look), look.label),
            _count(run.seed),
            Entry(run.status, run.status, "strong"),
            Entry(run.message or "no message", run.message or "", "message"),
            _count(run.steps),
            _directory(material, run),
        ]
        lines.append((cells, look.key))
    aid = (
        "These runs are in no mean. A diverged run is a result about its method; a failed one says something about the "
        "machine or the configuration, and can be run again."
    )
    return Section("lost", "Diverged and failed runs", aid, sortable("Diverged and failed runs", heads, lines, "runs"))


def all_runs(material: Material) -> Markup:
    """Every run, behind a button."""
    owners = _owners(material)
    heads = [
        Head("method", text=True),
        Head("tasks", text=True),
        Head("seed"),
        Head("status", text=True),
        Head("epochs"),
        Head("training, s", -1),
        Head("commit", text=True),
        Head("directory", text=True),
    ]
    lines = []
    for run in material.runs:
        look = material.looks[owners[run.path]]
        seconds = run.cost.get("train_seconds")
        commit = str(run.git.get("commit") or "unknown")[:10] + (" dirty" if run.git.get("dirty") else "")
        tasks = ", ".join(run.tasks) if run.num_tasks <= 3 else counted(run.num_tasks, "task")
        cells = [
            Entry(name(look), look.label),
            Entry(tasks, tasks),
            _count(run.seed),
            Entry(run.status, run.status, "" if run.completed else "strong"),
            _count(run.epochs),
            Entry(NONE if seconds is None else fixed(seconds, 1), seconds),
            Entry(tag("code", commit), commit),
            _directory(material, run),
        ]
        lines.append((cells, look.key))
    summary = tag("summary", f"All {counted(len(material.runs), 'run')}")
    return tag("details", summary, sortable("All runs", heads, lines, "runs"), class_="more")


def _owners(material: Material) -> dict[object, str]:
    return {run.path: row.label for row in material.rows for run in row.method.runs}


def _count(value: int) -> Entry:
    return Entry(str(value), float(value))


def _directory(material: Material, run: Run) -> Entry:
    shown = material.directories[run.path]
    return Entry(tag("code", breakable(shown, "/")), shown)
