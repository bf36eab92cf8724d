"""One page a table, and their front page: generated text around blocks that people write."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.results.assignment import code_version
from mtl.results.definition import TableDefinition
from mtl.results.paper_rendering import notes_markdown, sections_markdown
from mtl.results.runs import Run
from mtl.results.sections import Section

LEAD = "lead"
"""What people write on a table's page: the first paragraph."""
FINDINGS = "findings"
"""What people write on the front page: what was found, in five lines."""


@dataclass(frozen=True)
class Origin:
    """How a page was made.

    Attributes:
        commands: Multirun commands that make exactly its runs.
        table: Command that makes the page of run directories.
        again: Command that makes the page of its file of runs.
        record: That file, relative to the page.
    """

    commands: tuple[str, ...]
    table: str
    again: str
    record: str


def table_page(
    definition: TableDefinition,
    sections: Sequence[Section],
    notes: Sequence[str],
    figures: Mapping[str, str],
    runs: Sequence[Run],
    origin: Origin,
    before: str,
) -> str:
    """The page of a table.

    Args:
        definition: The table.
        sections: Its grids.
        notes: Its footnotes.
        figures: File beside the page -> title.
        runs: All runs that were made for it, candidates that were not chosen included.
        origin: Commands.
        before: The page as it was, whose block for people is kept; empty for a new one.
    """
    text = [f"# {definition.title}", "", kept(before, LEAD), ""]
    text += [f"**{definition.banner}**", ""] if definition.banner else []
    text += [sections_markdown(sections)]
    for file, title in figures.items():
        text += [f"![{title}]({file})", ""]
    text += [notes_markdown(notes), *_origin(runs, origin)]
    return "\n".join(text)


def kept(before: str, block: str) -> str:
    """A block that people write, with its markers, as it stands in `before`; empty if it is not there."""
    begin, end = f"<!-- {block}: begin -->", f"<!-- {block}: end -->"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", before, re.DOTALL)
    return found.group() if found else f"{begin}\n{end}"


def _origin(runs: Sequence[Run], origin: Origin) -> list[str]:
    versions = Counter(code_version(run) for run in runs)
    commits = sorted({str(run.git.get("commit") or "unknown") for run in runs})
    changed = [version for version in versions if version.endswith("+changes")]
    machines = Counter(_machine(run) for run in runs)
    notes = sorted({run.data_note for run in runs if run.data_note})
    facts = [f"Code: commit {', '.join(f'`{commit}`' for commit in commits)}."]
    facts += [f"{sum(versions[v] for v in changed)} runs come from a tree with uncommitted changes."] if changed else []
    facts += [
        f"Machine: {'; '.join(f'{machine} ({count} runs)' for machine, count in sorted(machines.items()))}.",
        f"{len(runs)} runs, those of candidates that were not chosen included: {_seconds(runs)}.",
    ]
    facts += [f"Data: {' '.join(notes)}"] if notes else []
    text = ["## How it was made", "", *(f"- {fact}" for fact in facts)]
    text += ["", "```bash", *origin.commands, origin.table, "```", ""]
    text += [
        f"Every run, with its metrics, costs and versions, is a line of [{origin.record}]({origin.record}); this page "
        "is made of that file, and again by",
        "",
        "```bash",
        origin.again,
        "```",
        "",
    ]
    return text


def _machine(run: Run) -> str:
    known = {key: run.versions[key] for key in ("machine", "python", "torch", "cuda") if run.versions.get(key)}
    known = {key: value for key, value in known.items() if (key, value) != ("cuda", "none")}
    parts = [run.device or "unknown device", f"{run.num_threads or 'unknown'} threads"]
    return ", ".join([*parts, *(f"{key} {value}" for key, value in known.items())])


def _seconds(runs: Sequence[Run]) -> str:
    parts = []
    for key, name in (("train_seconds", "seconds of training"), ("train_cpu_seconds", "CPU seconds of training")):
        known = [run.cost[key] for run in runs if key in run.cost]
        if known:
            lacking = f" ({len(runs) - len(known)} runs do not say)" if len(known) < len(runs) else ""
            parts.append(f"{math.fsum(known):,.0f} {name}{lacking}")
    return ", ".join(parts) or "times unknown"


@dataclass(frozen=True)
class PageEntry:
    """A line of the front page."""

    file: str
    title: str
    runs: Sequence[Run]


def front_page(entries: Sequence[PageEntry], before: str) -> str:
    """The front page: a block for people, and the list of pages; text around both is kept.

    Args:
        entries: The pages that are generated.
        before: The page as it was; empty for a new one.
    """
    lines = ["<!-- pages: begin -->", "| table | runs | seeds | code |", "| --- | ---: | ---: | --- |"]
    for entry in sorted(entries, key=lambda one: one.file):
        seeds = ", ".join(map(str, sorted({run.seed for run in entry.runs})))
        versions = ", ".join(sorted({code_version(run) for run in entry.runs}))
        lines.append(f"| [{entry.title}]({entry.file}) | {len(entry.runs)} | {seeds} | {versions} |")
    pages = "\n".join([*lines, "<!-- pages: end -->"])
    if not before:
        return f"# Results\n\n{kept('', FINDINGS)}\n\n## Tables\n\n{pages}\n"
    return re.sub("<!-- pages: begin -->.*?<!-- pages: end -->", lambda _: pages, before, flags=re.DOTALL)
