"""Which runs make which row of a table, and which runs must not stand in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mtl.errors import UserError
from mtl.identity import DEFAULTS, UNNUMERIC
from mtl.results.choice import Chosen, choose, choose_row
from mtl.results.definition import TableDefinition, TableRow
from mtl.results.footnotes import data_text
from mtl.results.plan import PlannedRun
from mtl.results.runs import Run, mixed_data

UNCOMPARED = ("tasks", *UNNUMERIC)
"""Keys that are no part of a setting."""
SHOWN = 6
"""So many runs or keys are named in a message."""


@dataclass(frozen=True)
class Assignment:
    """Row label -> chosen runs, one entry a task selection; and what the table has to say about it."""

    rows: Mapping[str, tuple[Chosen, ...]]
    used: tuple[Run, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    foreign: frozenset[str] = frozenset()


def assign(
    definition: TableDefinition, planned: Sequence[PlannedRun], runs: Sequence[Run], allow_mixed: bool = False
) -> Assignment:
    """Find the runs of every row and choose its learning rate (or weights) on validation.

    Runs of other experiments are left out and counted. A run of the table's experiment under another setting (data,
    network, protocol) is refused, and so are runs of several code versions; with `allow_mixed` a row without runs of
    its own takes those of the same strategy, and the table says in which keys they differ.

    Raises:
        UserError: Settings, data, code versions or selection rules are mixed, and `allow_mixed` is false.
    """
    ordered = sorted(runs, key=lambda run: str(run.path))
    ours = [run for run in ordered if run.experiment == definition.experiment]
    by_job = {(job.config_hash, job.seed) for job in planned}
    exact = [run for run in ours if (run.config_hash, run.seed) in by_job]
    settings = {job.setting_hash for job in planned}
    other_setting = [run for run in ours if run not in exact and run.setting_hash not in settings]
    warnings: list[str] = []
    notes = _notes(ordered, ours, exact, other_setting)
    if other_setting:
        text = _setting_text(other_setting, planned)
        if not allow_mixed:
            raise UserError(
                f"{len(other_setting)} runs of experiment `{definition.experiment}` are not of this table's setting:\n"
                f"{text}\nGive the same keys to this command (they then hold for the whole table), give another "
                "directory, or say `allow_mixed=true`."
            )
        warnings.append(f"Settings are mixed (allow_mixed=true):\n{text}")
    foreign: list[str] = []
    rows: dict[str, tuple[Chosen, ...]] = {}
    for row in definition.rows:
        jobs = [job for job in planned if job.row == row.label]
        chosen = choose_row(jobs, exact, definition.choose_on)
        if not chosen and allow_mixed:
            chosen = _choose_foreign(row, jobs, other_setting)
            if chosen:
                foreign.append(row.label)
        if chosen:
            rows[row.label] = chosen
    used = {run.path: run for chosen in rows.values() for one in chosen for run in one.runs}
    warnings += _check_mixed(list({**{run.path: run for run in exact}, **used}.values()), allow_mixed)
    if used and not (all(run.code for run in used.values()) or any(run.git.get("commit") for run in used.values())):
        notes.append("Code versions could not be compared: runs do not know theirs (made outside a git checkout).")
    if foreign:
        warnings.append(f"Rows made of runs of another setting, marked †: {', '.join(foreign)}.")
    return Assignment(rows, tuple(used.values()), tuple(warnings), tuple(notes), frozenset(foreign))


def _choose_foreign(row: TableRow, jobs: Sequence[PlannedRun], runs: Sequence[Run]) -> tuple[Chosen, ...]:
    strategies = {job.overrides.get("strategy") for job in jobs} | {row.strategy}
    alike = [run for run in runs if run.strategy in strategies and run.is_single_task == row.is_single_task]
    found = []
    for tasks in dict.fromkeys(tuple(run.tasks) for run in alike):
        candidates: dict[str, list[Run]] = {}
        for run in alike:
            if tuple(run.tasks) == tasks:
                candidates.setdefault(f"configuration {run.config_hash[:8]}", []).append(run)
        one = choose(candidates, len(candidates), complete=True)
        if one is not None:
            found.append(one)
    return tuple(found)


def code_version(run: Run) -> str:
    """Commit of a run, marked if its tree had changes of its own."""
    return f"{str(run.git.get('commit') or 'unknown')[:12]}{'+changes' if run.git.get('dirty') else ''}"


def _code_versions(runs: Sequence[Run]) -> dict[str, str]:
    """What to compare: the digest of the code where every run has one, else the commit."""
    if not all(run.code for run in runs):
        return {str(run.path): code_version(run) for run in runs}
    commits = {code: sorted({code_version(run) for run in runs if run.code == code}) for code in {r.code for r in runs}}
    return {str(run.path): f"code {run.code} (git {', '.join(commits[run.code])})" for run in runs}


def _check_mixed(runs: Sequence[Run], allow_mixed: bool) -> list[str]:
    warnings = []
    packages = sorted({name for run in runs for name in run.plugins})
    for what, values in (
        ("code versions", _code_versions(runs)),
        *(
            (f"versions of `{name}`", {str(run.path): run.plugins[name] for run in runs if name in run.plugins})
            for name in packages
        ),
        (
            "selection rules",
            {str(run.path): str(run.selection.get("rule", "unknown")) for run in runs if run.completed},
        ),
        ("preparations of the data", {str(run.path): run.data_note or "official" for run in runs}),
    ):
        kinds = sorted(set(values.values()))
        if len(kinds) < 2:
            continue
        text = "\n".join(
            f"  {kind}: {sum(value == kind for value in values.values())} runs, e.g. "
            f"{next(path for path, value in values.items() if value == kind)}"
            for kind in kinds
        )
        if not allow_mixed:
            raise UserError(
                f"One table should hold runs of one kind. Found {len(kinds)} {what}:\n{text}\nRun the older ones "
                "again, give the directory of one kind, or say `allow_mixed=true`; the table will then say so."
            )
        warnings.append(f"{len(kinds)} {what} are mixed (allow_mixed=true):\n{text}")
    for same in mixed_data(runs):
        if not allow_mixed:
            raise UserError(
                f"One table should hold runs on the same data. Found {data_text(same)}\nRun the older ones again, give "
                "the directory of one kind, or say `allow_mixed=true`; the table will then say so."
            )
        warnings.append(f"Data are mixed (allow_mixed=true): {data_text(same)}")
    return warnings


def _notes(runs: Sequence[Run], ours: Sequence[Run], exact: Sequence[Run], other_setting: Sequence[Run]) -> list[str]:
    notes = []
    if len(ours) < len(runs):
        notes.append(f"{len(runs) - len(ours)} runs of other experiments in the directory were left out.")
    beside = [run for run in ours if run not in exact and run not in other_setting]
    if beside:
        notes.append(
            f"{len(beside)} runs of this setting are in no sweep of the table (another learning rate, option or seed) "
            f"and were left out, e.g. {', '.join(str(run.path) for run in beside[:2])}."
        )
    return notes


def _setting_text(runs: Sequence[Run], planned: Sequence[PlannedRun]) -> str:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.setting_hash, []).append(run)
    lines = []
    for setting, same in sorted(groups.items()):
        changes = _changes(same[0], planned)
        lines.append(f"  setting {setting[:8]}, {len(same)} runs, e.g. {same[0].path}: {changes}")
    return "\n".join(lines)


def _changes(run: Run, planned: Sequence[PlannedRun]) -> str:
    """In which keys of data, network and protocol a run differs from the table's jobs."""
    file = run.path / "config.yaml"
    if not planned or not file.is_file():
        return "no config.yaml to compare with"
    parts = ("dataset", "backbone", "heads", "trainer", "scheduler")
    wanted = flatten({part: planned[0].config.get(part) for part in parts})
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = flatten({part: stored.get(part) for part in parts})
    keys = [key for key in sorted(wanted.keys() | found.keys()) if key.rpartition(".")[2] not in UNCOMPARED]
    before = {key: DEFAULTS.get(key.rpartition(".")[2], "absent") for key in keys}  # of runs older than the key
    pairs = [(key, wanted.get(key, before[key]), found.get(key, before[key])) for key in keys]
    differing = [f"{key} {asked} -> {there}" for key, asked, there in pairs if asked != there]
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    return ", ".join(differing[:SHOWN]) + more if differing else "the code changed what a setting is"


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat
