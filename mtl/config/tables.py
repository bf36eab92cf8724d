"""The command line of scripts/table.py: tables of papers, their missing runs, and how complete they are."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtl.config.build import config_directory
from mtl.config.entry import guarded
from mtl.config.sweeps import Plan, plan_table, table_state
from mtl.errors import ConfigError
from mtl.results.assignment import assign
from mtl.results.choice import needed
from mtl.results.definition import TableDefinition, load_definition, only_rows, table_names
from mtl.results.paper_notes import notes
from mtl.results.paper_rendering import to_csv, to_latex, to_markdown, to_rich
from mtl.results.paper_table import build_table
from mtl.results.plan import PlannedRun, commands, estimate, missing_runs
from mtl.results.runs import Run, load_runs
from mtl.results.sections import WIDTH, sections

KEYS = ("table", "runs", "out", "rows", "plan", "allow_mixed", "choose_on")
USAGE = (
    "table=PAPER/TABLE|list runs=DIR [out=DIR] [rows=LABEL,...] [plan=true] [allow_mixed=true] "
    "[choose_on=SEED,...] [overrides of every job]"
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
    choose_on: tuple[int, ...] | None
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
        _seeds(values["choose_on"]) if "choose_on" in values else None,
        tuple(overrides),
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise ConfigError(f"`choose_on` should be seeds, joined by commas. Found `{text}`.") from None


def _run(options: Options) -> int:
    runs = _load(options.runs)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if options.table == "list":
        console.print(_listing(runs))
        return 0
    definition = only_rows(load_definition(config_directory() / "table", options.table), options.rows)
    if options.choose_on is not None:
        definition = replace(definition, choose_on=options.choose_on)
    plan = plan_table(definition, options.overrides)
    _check_seeds(definition, plan)
    if options.plan:
        _print_plan(definition, plan, runs)
    else:
        _write(definition, plan, runs, options, console)
    return 0


def _check_seeds(definition: TableDefinition, plan: Plan) -> None:
    seeds = {job.seed for job in plan.jobs}
    if plan.jobs and not seeds.issuperset(definition.choose_on):
        raise ConfigError(
            f"Candidates of {definition.name} are compared on seeds {list(definition.choose_on)} (choose_on), but the "
            f"jobs have seeds {sorted(seeds)}. Leave `seed` away: the plan asks for the other seeds of what was chosen "
            "only, as soon as a comparison is complete."
        )


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
            wanted = needed(jobs, runs, definition.choose_on)
            count = len(wanted) - len(missing_runs(wanted, runs))
            state = f"{count} of {len(wanted) or state}" if state else "no sweep yet"
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
    wanted = needed(plan.jobs, runs, definition.choose_on)
    missing = missing_runs(wanted, runs)
    out.write(f"{definition.name}: {len(wanted) - len(missing)} of {len(wanted)} runs are there.\n")
    if definition.choose_on:
        out.write(f"{_stages(definition, plan, wanted)}\n")
    if not missing:
        return
    lines = commands(missing, plan.parameters, plan.fixed)
    out.write(f"The {len(missing)} missing ones are made by\n\n" + "\n".join(lines) + "\n\n")
    out.write(f"Time: {estimate(missing, plan.jobs, runs)}.\n")


def _stages(definition: TableDefinition, plan: Plan, wanted: Sequence[PlannedRun]) -> str:
    """What is still open where candidates are compared on some seeds only."""
    seeds = ", ".join(map(str, definition.choose_on))
    groups = {(job.row, job.tasks) for job in plan.jobs}
    chosen = {(job.row, job.tasks) for job in wanted if job.seed not in definition.choose_on}
    return (
        f"Candidates are compared on validation, seed {seeds}; then the chosen one is run with the other seeds. Chosen: "
        f"{len(chosen)} of {len(groups)}; ask again after these runs for what the others choose."
    )


def _write(definition: TableDefinition, plan: Plan, runs: Sequence[Run], options: Options, console: Console) -> None:
    assignment = assign(definition, plan.jobs, runs, options.allow_mixed)
    table = build_table(definition, assignment)
    missing = missing_runs(needed(plan.jobs, runs, definition.choose_on), runs)
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
