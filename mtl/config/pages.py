"""Pages of tables, each made of a file of its runs, so that both can be committed and the one checked by the other."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mtl.config.figures import draw_for_page, figure_titles
from mtl.config.plugins import find_root
from mtl.config.table_options import Asked, Content, Options, ask, content, parse
from mtl.errors import UserError
from mtl.results.definition import load_definition
from mtl.results.page import Origin, PageEntry, front_page, table_page
from mtl.results.plan import commands
from mtl.results.records import read_records, write_records
from mtl.results.runs import Run

RECORDS = "runs"
"""Directory of the files of runs, beside the pages."""
FRONT = "README.md"


def write_page(options: Options, asked: Asked, found: Content, runs: Sequence[Run], out: Path) -> list[Path]:
    """Write the runs of a table into one file, its page made of that file, its figures, and the front page.

    Args:
        options: The arguments.
        asked: What they ask for.
        found: The table of `runs`.
        runs: All runs that were read.
        out: Directory of the pages.
    """
    planned = {(job.config_hash, job.seed) for job in asked.plan.jobs}
    used = {run.path for run in found.table.assignment.used}
    kept = [run for run in runs if run.path in used or (run.config_hash, run.seed) in planned]
    if not kept:
        raise UserError(
            f"A page needs at least one run of {asked.definition.name}. Found none in {options.runs}. `plan=true` "
            "prints the commands that make them."
        )
    record = out / RECORDS / f"{_stem(asked)}.jsonl"
    if record.resolve() != options.runs.resolve():
        ordered = sorted(kept, key=lambda run: str(run.path))
        write_records(record, ordered, options.runs, used, options.arguments)
    figures = draw_for_page(asked, runs, out / _stem(asked))
    return [page_of(record, out), record, *figures, _write_front(out)]


def refresh_pages(out: Path) -> list[Path]:
    """Every page below `out` again, from its file of runs; figures stay as they are."""
    return [*(page_of(record, out) for record in _records(out)), _write_front(out)]


def page_of(record: Path, out: Path) -> Path:
    """Make the page of a file of runs."""
    runs, arguments = read_records(record)
    asked = ask(parse(arguments))
    found = content(asked, runs)
    page = out / f"{_stem(asked)}.md"
    planned = {(run.config_hash, run.seed) for run in runs}
    done = [job for job in asked.plan.jobs if (job.config_hash, job.seed) in planned]
    words = shlex.join(arguments)
    origin = Origin(
        commands=tuple(commands(done, asked.plan.parameters, asked.plan.fixed)),
        table=f"python scripts/table.py {words} runs=outputs out=docs/results page=true",
        again=f"python scripts/table.py {words} runs=docs/results/{RECORDS}/{record.name} out=docs/results page=true",
        record=f"{RECORDS}/{record.name}",
    )
    titles = figure_titles(asked.definition.figures)
    figures = {f"{_stem(asked)}-{name.rpartition('/')[2]}.png": title for name, title in titles.items()}
    present = {file: title for file, title in figures.items() if (out / file).is_file()}
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    text = table_page(asked.definition, found.sections, found.notes, present, runs, origin, before)
    page.write_text(text, encoding="utf-8")
    return page


def _records(out: Path) -> list[Path]:
    return sorted((out / RECORDS).glob("*.jsonl"))


def _write_front(out: Path) -> Path:
    entries = []
    for record in _records(out):
        runs, arguments = read_records(record)
        name = parse(arguments).table
        title = load_definition(find_root("table", name), name).title
        entries.append(PageEntry(f"{record.stem}.md", title, runs))
    front = out / FRONT
    before = front.read_text(encoding="utf-8") if front.is_file() else ""
    front.write_text(front_page(entries, before), encoding="utf-8")
    return front


def _stem(asked: Asked) -> str:
    return asked.definition.name.replace("/", "_")
