"""The section that lets a reader repeat the runs: protocol, options, versions, footnotes."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from mtl.results.report.glyphs import name
from mtl.results.report.listing import all_runs
from mtl.results.report.markup import joined, tag
from mtl.results.report.material import Material, Section
from mtl.results.report.numbers import counted
from mtl.results.report.tables import plain

_SHOWN_ABOVE = ("Delta_m:", "Mean rank:", "Baseline", "WARNING:")


def protocol_section(material: Material) -> Section:
    """Everything that the numbers depend on."""
    runs = material.runs
    rows = [
        ("data", _listing(run.dataset for run in runs)),
        ("network", _listing(f"{run.backbone} + {run.heads}" for run in runs)),
        ("experiment", _listing(run.experiment or "none" for run in runs)),
        ("setting", _listing(run.setting_hash for run in runs)),
    ]
    names = sorted({key for run in runs for key in run.versions})
    rows += [(key, _listing(str(run.versions.get(key, "unknown")) for run in runs)) for key in names]
    table = plain(["what", "value"], rows, "Setting and versions", "facts")
    notes = [note for note in material.comparison.footnotes if not note.startswith(_SHOWN_ABOVE)]
    listed = tag("ul", [tag("li", note) for note in notes], class_="notes")
    aid = "What the numbers above depend on. Several values in a line mean that runs differ in it."
    body = joined([listed, table, _options(material), all_runs(material)])
    return Section("protocol", "Protocol and versions", aid, body)


def _options(material: Material) -> Markup:
    """Options of every method, behind a button."""
    rows = []
    for row in material.rows:
        run = row.method.runs[0]
        seeds = ", ".join(map(str, row.seeds)) or "none completed"
        texts = [_flat(run.options.get(part, {})) for part in ("strategy", "optimizer")]
        hashes = ", ".join(sorted({one.config_hash for one in row.method.runs}))
        rows.append((name(material.looks[row.label]), seeds, texts[0], texts[1], tag("code", hashes)))
    heads = ["method", "seeds", "strategy", "optimizer", "configuration"]
    return tag(
        "details",
        tag("summary", f"Options of {counted(len(rows), 'method')}"),
        plain(heads, rows, "Options of the methods", "options"),
        class_="more",
    )


def _flat(options: Mapping[str, Any], prefix: str = "") -> str:
    parts = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            parts.append(_flat(value, f"{prefix}{key}."))
        elif not key.startswith("_") or key == "_target_":
            word = str(value).rpartition(".")[2] if key == "_target_" else json.dumps(value)
            parts.append(word if key == "_target_" and not prefix else f"{prefix}{key} {word}")
    return ", ".join(part for part in parts if part)


def _listing(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({counted(count, 'run')})" for value, count in sorted(counts.items()))
