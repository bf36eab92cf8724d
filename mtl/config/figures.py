"""The command line of scripts/figures.py: figures of papers, from the runs of tables or from what runs recorded."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtl.config.arguments import split_arguments
from mtl.config.build import config_directory
from mtl.config.entry import guarded
from mtl.config.table_options import Asked, ask, read
from mtl.config.table_options import Options as TableOptions
from mtl.errors import ConfigError, RunDirectoryError, UserError
from mtl.results.assignment import assign
from mtl.results.choice import needed
from mtl.results.methods import group_methods
from mtl.results.paper_figures import METHODS_KINDS, TABLE_KINDS, FigureDefinition, figure_names, load_figure
from mtl.results.paper_figures.points import split_row
from mtl.results.paper_table import build_table
from mtl.results.plan import commands, missing_runs
from mtl.results.runs import Method, Run

SWITCHES = ("plan", "published", "allow_mixed")
KEYS = ("figure", "runs", "out", "table", "experiment", "strategy", *SWITCHES)
USAGE = (
    "figure=PAPER/FIGURE|list runs=DIR out=DIR [table=PAPER/TABLE] [plan=true] [published=true] [allow_mixed=true] "
    "[overrides of every job]; of what runs recorded: [table=...] or [experiment=NAME]; [strategy=NAME,...]"
)


@dataclass(frozen=True)
class Options:
    """The arguments."""

    figure: str
    runs: Path
    out: Path
    table: str | None
    experiment: str | None
    strategies: tuple[str, ...]
    switches: dict[str, bool]
    overrides: tuple[str, ...]


def figure_main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    return guarded(lambda: _run(parse(arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """Read KEY=VALUE arguments.

    Raises:
        ConfigError: An argument has no value, or there is no `figure`.
    """
    values, switches, overrides = split_arguments(arguments, KEYS, SWITCHES, USAGE)
    if "figure" not in values:
        raise ConfigError(f"`figure` is missing: {USAGE}. The figures are {', '.join(figure_names(_root()))}.")
    return Options(
        figure=values["figure"],
        runs=Path(values.get("runs", "outputs")),
        out=Path(values.get("out", "outputs/figures")),
        table=values.get("table"),
        experiment=values.get("experiment"),
        strategies=tuple(values["strategy"].split(",")) if "strategy" in values else (),
        switches=switches,
        overrides=overrides,
    )


def _root() -> Path:
    return config_directory() / "figure"


def _run(options: Options) -> int:
    if options.figure == "list":
        for name in figure_names(_root()):
            definition = load_figure(_root(), name)
            source = f"table {definition.table}" if definition.table else "what runs recorded"
            sys.stdout.write(f"{name:32} {definition.title} ({source})\n")
        return 0
    definition = load_figure(_root(), options.figure)
    path = options.out / definition.name.replace("/", "_")
    if definition.kind in TABLE_KINDS:
        written = _of_table(definition, options, path)
    elif definition.kind in METHODS_KINDS:
        written = _of_methods(definition, options, path)
    else:
        kinds = ", ".join([*TABLE_KINDS, *METHODS_KINDS])
        raise ConfigError(f"Figure `{definition.name}`: `{definition.kind}` is no kind. The kinds are {kinds}.")
    if written:
        sys.stdout.write(f"Written: {' '.join(map(str, written))}\n")
    return 0


def _of_table(definition: FigureDefinition, options: Options, path: Path) -> tuple[Path, ...]:
    if options.experiment or options.strategies:
        raise ConfigError(
            f"Figure {definition.name} is of a table: give `table=...` instead of experiment or strategy."
        )
    table = options.table or definition.table
    assert table is not None
    asked = _ask(options, table)
    if "published" in options.switches:
        given = {**definition.options, "published": options.switches["published"]}
        definition = replace(definition, options=given)
    runs = read(options.runs)
    if options.switches.get("plan"):
        _print_plan(_split(definition, asked), runs, definition.name)
        return ()
    return _draw(definition, asked, runs, path)


def _split(definition: FigureDefinition, asked: Asked) -> Asked:
    """The table with the row of the figure's grid in parts."""
    grid = definition.options.get("grid")
    if not grid or all(row.label != grid["row"] for row in asked.definition.rows):
        return asked
    table, jobs = split_row(asked.definition, asked.plan.jobs, grid["row"], grid["parameter"])
    return replace(asked, definition=table, plan=replace(asked.plan, jobs=tuple(jobs)))


def _draw(definition: FigureDefinition, asked: Asked, runs: Sequence[Run], path: Path) -> tuple[Path, Path]:
    parts = _split(definition, asked)
    table = build_table(parts.definition, assign(parts.definition, parts.plan.jobs, runs, parts.allow_mixed))
    return TABLE_KINDS[definition.kind](table, definition, path)


def _print_plan(asked: Asked, runs: Sequence[Run], name: str) -> None:
    wanted = needed(asked.plan.jobs, runs, asked.definition.choose_on)
    missing = missing_runs(wanted, runs)
    sys.stdout.write(f"{name}: {len(wanted) - len(missing)} of {len(wanted)} runs are there.\n")
    if missing:
        lines = commands(missing, asked.plan.parameters, asked.plan.fixed)
        sys.stdout.write("The missing ones are made by\n\n" + "\n".join(lines) + "\n")


def _of_methods(definition: FigureDefinition, options: Options, path: Path) -> tuple[Path, Path]:
    if not options.runs.is_dir():
        raise RunDirectoryError(f"Figure {definition.name} reads run directories. Found no directory {options.runs}.")
    runs = read(options.runs)
    if options.table is not None:
        methods = _rows(_ask(options, options.table), runs)
    elif options.overrides or options.switches:
        found = ", ".join([*options.overrides, *options.switches])
        raise ConfigError(
            f"Figure {definition.name} is of what runs recorded: without `table=...` it takes runs, out, experiment "
            f"and strategy. Found also {found}."
        )
    else:
        own = [run for run in runs if options.experiment in (None, run.experiment) and not run.is_single_task]
        methods = group_methods(own)
    wanted = options.strategies
    kept = [one for one in methods if not wanted or one.label in wanted or one.runs[0].strategy in wanted]
    return METHODS_KINDS[definition.kind](kept, definition, path)


def _ask(options: Options, table: str) -> Asked:
    mixed = options.switches.get("allow_mixed", False)
    return ask(TableOptions(table, options.runs, None, (), False, mixed, False, None, options.overrides))


def _rows(asked: Asked, runs: Sequence[Run]) -> list[Method]:
    """The multi-task rows of a table, with the runs that were chosen."""
    rows = assign(asked.definition, asked.plan.jobs, runs, asked.allow_mixed).rows
    found = [Method(label, tuple(run for one in chosen for run in one.runs)) for label, chosen in rows.items()]
    return [method for method in found if method.runs and not method.runs[0].is_single_task]


def draw_for_page(asked: Asked, runs: Sequence[Run], stem: Path) -> list[Path]:
    """Draw the figures of a table's page beside it; one whose runs lack what it shows is left out, and said."""
    written: list[Path] = []
    for name in asked.definition.figures:
        definition = load_figure(_root(), name)
        path = stem.with_name(f"{stem.name}-{name.rpartition('/')[2]}")
        try:
            if definition.kind in TABLE_KINDS:
                written += _draw(definition, asked, runs, path)
            else:
                written += METHODS_KINDS[definition.kind](_rows(asked, runs), definition, path)
        except UserError as error:
            sys.stdout.write(f"Figure {name} was left out: {error}\n")
    return written


def figure_titles(names: Sequence[str]) -> dict[str, str]:
    """Figure -> its title."""
    return {name: load_figure(_root(), name).title for name in names}
