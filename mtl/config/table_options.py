"""The arguments of scripts/table.py, and what they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtl.config.arguments import split_arguments
from mtl.config.plugins import find_configs, find_root
from mtl.config.sweeps import Plan, plan_table
from mtl.errors import ConfigError
from mtl.results.assignment import assign
from mtl.results.choice import needed
from mtl.results.definition import TableDefinition, load_definition, only_rows, with_reference
from mtl.results.paper_notes import notes
from mtl.results.paper_table import PaperTable, build_table
from mtl.results.plan import commands, missing_runs
from mtl.results.records import read_records
from mtl.results.runs import Run, load_runs
from mtl.results.sections import Section, sections

SWITCHES = ("plan", "allow_mixed", "page")
KEYS = ("table", "runs", "out", "rows", "reference", "choose_on", *SWITCHES)
USAGE = (
    "table=PAPER/TABLE|list|pages runs=DIR [out=DIR] [page=true] [rows=LABEL,...] [reference=LABEL] [plan=true] "
    "[allow_mixed=true] [choose_on=SEED,...] [overrides of every job]"
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
    page: bool
    choose_on: tuple[int, ...] | None
    overrides: tuple[str, ...]
    reference: str | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What makes the table what it is, as on the command line: all but places."""
        words = [f"table={self.table}"]
        words += [f"rows={','.join(self.rows)}"] if self.rows else []
        words += [f"reference={self.reference}"] if self.reference else []
        words += ["allow_mixed=true"] if self.allow_mixed else []
        words += [f"choose_on={','.join(map(str, self.choose_on))}"] if self.choose_on is not None else []
        return (*words, *self.overrides)


@dataclass(frozen=True)
class Asked:
    """A table as it was asked for: its definition with the given rows and rule of choice, and its jobs."""

    definition: TableDefinition
    plan: Plan
    allow_mixed: bool


@dataclass(frozen=True)
class Content:
    """A table with what is printed of it."""

    table: PaperTable
    sections: tuple[Section, ...]
    notes: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Options:
    """Read KEY=VALUE arguments.

    Raises:
        ConfigError: An argument has no value, or there is no `table`.
    """
    values, switches, overrides = split_arguments(arguments, KEYS, SWITCHES, USAGE)
    if "table" not in values:
        names = ", ".join(sorted(find_configs("table", "**/*.yaml")))
        raise ConfigError(f"`table` is missing: {USAGE}. The tables are {names}; `table=list` shows them.")
    if switches.get("page") and "out" not in values:
        raise ConfigError("`page=true` needs a place: `out=docs/results`, say.")
    return Options(
        table=values["table"],
        runs=Path(values.get("runs", "outputs")),
        out=Path(values["out"]) if "out" in values else None,
        rows=tuple(values["rows"].split(",")) if "rows" in values else (),
        reference=values.get("reference"),
        plan=switches.get("plan", False),
        allow_mixed=switches.get("allow_mixed", False),
        page=switches.get("page", False),
        choose_on=_seeds(values["choose_on"]) if "choose_on" in values else None,
        overrides=overrides,
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise ConfigError(f"`choose_on` should be seeds, joined by commas. Found `{text}`.") from None


def read(place: Path) -> list[Run]:
    """Runs below a directory, or of a file that `page=true` wrote; none if there are none yet: so a table begins."""
    if place.is_file():
        return read_records(place)[0]
    return load_runs(place) if place.is_dir() and any(place.rglob("summary.json")) else []


def ask(options: Options) -> Asked:
    """The definition and the jobs that the arguments name.

    Raises:
        ConfigError: There is no such table or row, or the seeds of the choice are not among those of the jobs.
    """
    definition = only_rows(load_definition(find_root("table", options.table), options.table), options.rows)
    if options.reference is not None:
        definition = with_reference(definition, options.reference)
    if options.choose_on is not None:
        definition = replace(definition, choose_on=options.choose_on)
    plan = plan_table(definition, options.overrides)
    seeds = {job.seed for job in plan.jobs}
    if plan.jobs and not seeds.issuperset(definition.choose_on):
        raise ConfigError(
            f"Candidates of {definition.name} are compared on seeds {list(definition.choose_on)} (choose_on), but the "
            f"jobs have seeds {sorted(seeds)}. Leave `seed` away: the plan asks for the other seeds of what was chosen "
            "only, as soon as a comparison is complete."
        )
    return Asked(definition, plan, options.allow_mixed)


def content(asked: Asked, runs: Sequence[Run]) -> Content:
    """The table of these runs."""
    definition, plan = asked.definition, asked.plan
    table = build_table(definition, assign(definition, plan.jobs, runs, asked.allow_mixed))
    missing = missing_runs(needed(plan.jobs, runs, definition.choose_on), runs)
    single = [job for job in missing if any(row.label == job.row and row.is_single_task for row in definition.rows)]
    footnotes = notes(table, missing, commands(single, plan.parameters, plan.fixed), plan.fixed)
    if plan.unavailable:
        footnotes.insert(0, f"WARNING: nothing can be run here yet: {plan.unavailable}.")
    return Content(table, tuple(sections(table)), tuple(footnotes))
