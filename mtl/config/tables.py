"""The command line of scripts/table.py: tables of papers, their missing runs, and how complete they are."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtl.config.build import config_directory
from mtl.config.entry import guarded
from mtl.config.sweeps import Plan, plan_table, table_state
from mtl.errors import ConfigError
from mtl.results.assignment import assign
from mtl.results.definition import TableDefinition, load_definition, only_rows, table_names
from mtl.results.paper_notes import notes
from mtl.results.paper_rendering import to_csv, to_latex, to_markdown, to_rich
from mtl.results.paper_table import build_table
from mtl.results.plan import commands, estimate, missing_runs
from mtl.results.runs import Run, load_runs
from mtl.results.sections import WIDTH, sections

KEYS = ("table", "runs", "out", "rows", "plan", "allow_mixed")
USAGE = (
    "table=PAPER/TABLE|list runs=DIR [out=DIR] [rows=LABEL,...] [plan=true] [allow_mixed=true] [overrides of every job]"
)


@dataclass(frozen=True)
class Options:
    """The arguments; `overrides` go to every job of the table, as on the command line of scripts/train.py."""

    table: str
    runs: Path
    out: Path | None
    rows: tuple[str, ...]
    plan: bool
    allow_mixed: bool
    overrides: tuple[str, ...]


def table_main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    return guarded(lambda: _run(parse(arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """Read KEY=VALUE arguments.

    Raises:
        ConfigError: An argument has no value, or there is no `table`.
    """
    values: dict[str, str] = {}
    overrides = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not value:
            raise ConfigError(f"Arguments are KEY=VALUE: {USAGE}. Found `{argument}`.")
        if key in KEYS:
            values[key] = value
        else:
            overrides.append(argument)
    if "table" not in values:
        names = ", ".join(table_names(config_directory() / "table"))
        raise ConfigError(f"`table` is missing: {USAGE}. The tables are {names}; `table=list` shows them.")
    for key in ("plan", "allow_mixed"):
        if values.get(key, "false").lower() not in ("true", "false"):
            raise ConfigError(f"`{key}` should be true or false. Found `{values[key]}`.")
    return Options(
        values["table"],
        Path(values.get("runs", "outputs")),
        Path(values["out"]) if "out" in values else None,
        tuple(values["rows"].split(",")) if "rows" in values else (),
        values.get("plan", "false").lower() == "true",
        values.get("allow_mixed", "false").lower() == "true",
        tuple(overrides),
    )


def _run(options: Options) -> int:
    runs = _load(options.runs)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if options.table == "list":
        console.print(_listing(runs))
        return 0
    definition = only_rows(load_definition(config_directory() / "table", options.table), options.rows)
    plan = plan_table(definition, options.overrides)
    if options.plan:
        _print_plan(definition, plan, runs)
    else:
        _write(definition, plan, runs, options, console)
    return 0


def _load(root: Path) -> list[Run]:
    """Runs below `root`; none if there are none yet, which is how a table begins."""
    return load_runs(root) if root.is_dir() and any(root.rglob("summary.json")) else []


def _listing(runs: Sequence[Run]) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("table", "title", "published", "runs here"):
        grid.add_column(title, overflow="fold", no_wrap=title == "table")
    root = config_directory() / "table"
    for name in table_names(root):
        definition = load_definition(root, name)
        state = table_state(definition)
        if isinstance(state, int):
            jobs = plan_table(definition).jobs if any(run.experiment == definition.experiment for run in runs) else ()
            state = f"{len(jobs) - len(missing_runs(jobs, runs))} of {state}" if state else "no sweep yet"
        published = definition.published
        printed = (
            "own protocol" if published is None else f"{len(published.rows)} rows" if published.rows else "no numbers"
        )
        grid.add_row(name, definition.title, printed, state)
    return grid


def _print_plan(definition: TableDefinition, plan: Plan, runs: Sequence[Run]) -> None:
    out = sys.stdout
    if plan.unavailable or not plan.jobs:
        out.write(f"Nothing to run for {definition.name}: {plan.unavailable or 'no sweep of it is defined'}.\n")
        return
    missing = missing_runs(plan.jobs, runs)
    out.write(f"{definition.name}: {len(plan.jobs) - len(missing)} of {len(plan.jobs)} runs are there.\n")
    if not missing:
        return
    lines = commands(missing, plan.parameters, plan.fixed)
    out.write(f"The {len(missing)} missing ones are made by\n\n" + "\n".join(lines) + "\n\n")
    out.write(f"Time: {estimate(missing, plan.jobs, runs)}.\n")


def _write(definition: TableDefinition, plan: Plan, runs: Sequence[Run], options: Options, console: Console) -> None:
    assignment = assign(definition, plan.jobs, runs, options.allow_mixed)
    table = build_table(definition, assignment)
    missing = missing_runs(plan.jobs, runs)
    single = [job for job in missing if any(row.label == job.row and row.is_single_task for row in definition.rows)]
    footnotes = notes(table, missing, commands(single, plan.parameters, plan.fixed), plan.fixed)
    if plan.unavailable:
        footnotes.insert(0, f"WARNING: nothing can be run here yet: {plan.unavailable}.")
    grids = sections(table)
    for part in to_rich(definition, grids, footnotes):
        console.print(part)
    if options.out is not None:
        stem = options.out / definition.name.replace("/", "_")
        options.out.mkdir(parents=True, exist_ok=True)
        texts = {
            ".md": to_markdown(definition, grids, footnotes),
            ".csv": to_csv(table),
            ".tex": to_latex(definition, grids, footnotes),
        }
        for suffix, text in texts.items():
            stem.with_suffix(suffix).write_text(text, encoding="utf-8")
        console.print("\nWritten:", *(str(stem.with_suffix(suffix)) for suffix in texts), highlight=False)
