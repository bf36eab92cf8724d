"""The command line of scripts/table.py: tables of papers, their missing runs, and how complete they are."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtl.config.entry import guarded
from mtl.config.pages import refresh_pages, write_page
from mtl.config.plugins import find_configs, find_root
from mtl.config.sweeps import plan_table, table_state
from mtl.config.table_options import Asked, Content, Options, ask, content, parse, read
from mtl.results.choice import needed
from mtl.results.definition import load_definition
from mtl.results.paper_rendering import to_csv, to_latex, to_markdown, to_rich
from mtl.results.plan import PlannedRun, commands, estimate, missing_runs
from mtl.results.runs import Run
from mtl.results.sections import WIDTH


def table_main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    return guarded(lambda: _run(parse(arguments)))


def _run(options: Options) -> int:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if options.table == "pages":
        return _say_written(refresh_pages(options.out or Path("docs/results")), console)
    runs = read(options.runs)
    if options.table == "list":
        console.print(_listing(runs))
        return 0
    asked = ask(options)
    if options.plan:
        _print_plan(asked, runs)
        return 0
    found = content(asked, runs)
    for part in to_rich(asked.definition, found.sections, found.notes):
        console.print(part)
    if options.out is None:
        return 0
    if options.page:
        return _say_written(write_page(options, asked, found, runs, options.out), console)
    return _say_written(_write(asked, found, options.out), console)


def _say_written(files: Sequence[Path], console: Console) -> int:
    console.print("\nWritten:", *map(str, files), highlight=False, soft_wrap=True)
    return 0


def _listing(runs: Sequence[Run]) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("table", "title", "published", "runs here"):
        grid.add_column(title, overflow="fold", no_wrap=title == "table")
    for name in sorted(find_configs("table", "**/*.yaml")):
        definition = load_definition(find_root("table", name), name)
        state = table_state(definition)
        if isinstance(state, int):
            jobs = plan_table(definition).jobs if any(run.experiment == definition.experiment for run in runs) else ()
            wanted = needed(jobs, runs, definition.choose_on)
            count = len(wanted) - len(missing_runs(wanted, runs))
            state = f"{count} of {len(wanted) or state}" if state else "no sweep yet"
        published = definition.published
        printed = (
            "own protocol" if published is None else f"{len(published.rows)} rows" if published.rows else "no numbers"
        )
        grid.add_row(name, definition.title, printed, state)
    return grid


def _print_plan(asked: Asked, runs: Sequence[Run]) -> None:
    out, definition, plan = sys.stdout, asked.definition, asked.plan
    if plan.unavailable or not plan.jobs:
        out.write(f"Nothing to run for {definition.name}: {plan.unavailable or 'no sweep of it is defined'}.\n")
        return
    wanted = needed(plan.jobs, runs, definition.choose_on)
    missing = missing_runs(wanted, runs)
    out.write(f"{definition.name}: {len(wanted) - len(missing)} of {len(wanted)} runs are there.\n")
    if definition.choose_on:
        out.write(f"{_stages(asked, wanted)}\n")
    if not missing:
        return
    lines = commands(missing, plan.parameters, plan.fixed)
    out.write(f"The {len(missing)} missing ones are made by\n\n" + "\n".join(lines) + "\n\n")
    out.write(f"Time: {estimate(missing, plan.jobs, runs)}.\n")


def _stages(asked: Asked, wanted: Sequence[PlannedRun]) -> str:
    """What is still open where candidates are compared on some seeds only."""
    seeds = ", ".join(map(str, asked.definition.choose_on))
    groups = {(job.row, job.tasks) for job in asked.plan.jobs}
    chosen = {(job.row, job.tasks) for job in wanted if job.seed not in asked.definition.choose_on}
    return (
        f"Candidates are compared on validation, seed {seeds}; what is chosen is then run with the other seeds. Chosen "
        f"so far: {len(chosen)} of {len(groups)}."
    )


def _write(asked: Asked, found: Content, out: Path) -> list[Path]:
    stem = out / asked.definition.name.replace("/", "_")
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        ".md": to_markdown(asked.definition, found.sections, found.notes),
        ".csv": to_csv(found.table),
        ".tex": to_latex(asked.definition, found.sections, found.notes),
    }
    for suffix, text in texts.items():
        stem.with_suffix(suffix).write_text(text, encoding="utf-8")
    return [stem.with_suffix(suffix) for suffix in texts]
