"""Joining runs into methods, and which configuration stands for a method: chosen as in the tables of papers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mtl.errors import UserError
from mtl.results.choice import Chosen, choose
from mtl.results.runs import SINGLE_TASK, Method, Run, mixed_data

Identity = tuple[str, str, str]
"""Strategy, `config_hash`, and the data where runs are known to differ in it."""
NOT_CHOSEN = "fewer completed seeds, or worse on val"


def group_methods(runs: Iterable[Run]) -> list[Method]:
    """Join runs into methods: same strategy and `config_hash`; single-task runs of a setting become one method.

    Configurations of one strategy, setting and task selection (other learning rates, other options) are candidates:
    the one with the most completed seeds, then the best on `val`, stands for the strategy, and the others stay as
    methods that do not. So it is for the single-task runs of a task, whose chosen configurations are the baseline. The
    result does not depend on the order of `runs`.

    Raises:
        UserError: A task has several single-task configurations, and nothing on `val` to choose by.
    """
    ordered = sorted(runs, key=lambda run: str(run.path))
    identities = _identities(ordered)
    hashes = sorted({run.config_hash for run in ordered})
    settings = sorted({run.setting_hash for run in ordered})
    methods: list[Method] = []
    for setting in settings:
        single = [run for run in ordered if run.is_single_task and run.setting_hash == setting]
        label = SINGLE_TASK if len(settings) == 1 else f"{SINGLE_TASK} ({_short(setting, settings)})"
        methods += _single_task(label, single, identities, hashes) if single else []
    return methods + _multi_task([run for run in ordered if not run.is_single_task], identities, hashes)


def _identities(runs: Sequence[Run]) -> dict[Path, Identity]:
    """Path of a run -> what it shares with the other seeds of its row."""
    split = {run.path for same in mixed_data(runs) for run in same}
    return {run.path: (run.strategy, run.config_hash, run.data if run.path in split else "") for run in runs}


def _single_task(
    label: str, runs: Sequence[Run], identities: Mapping[Path, Identity], hashes: Sequence[str]
) -> list[Method]:
    """The baseline, and the single-task configurations that were not chosen for it."""
    tasks = sorted({next(iter(run.tasks)) for run in runs})
    found = {task: _baseline([run for run in runs if task in run.tasks], task, identities) for task in tasks}
    chosen = {identity for identity, _ in found.values()}
    baseline = tuple(run for run in runs if identities[run.path] in chosen)
    note = "; ".join(f"{task} is {_how(one)}" for task, (_, one) in found.items() if one.candidates > 1)
    methods = [Method(label, baseline, is_baseline=True, note=note)]
    for identity in sorted({identities[run.path] for run in runs} - chosen):
        rest = tuple(run for run in runs if identities[run.path] == identity)
        name = f"{SINGLE_TASK} {next(iter(rest[0].tasks))}, {identity[0]} ({_named(identity, hashes)})"
        methods.append(Method(name, rest, note=f"not the baseline ({NOT_CHOSEN}), e.g. {rest[0].path}", stands=False))
    return methods


def _baseline(runs: Sequence[Run], task: str, identities: Mapping[Path, Identity]) -> tuple[Identity, Chosen]:
    """Which configuration stands for single-task training of `task`."""
    candidates: dict[Identity, list[Run]] = {}
    for run in runs:
        candidates.setdefault(identities[run.path], []).append(run)
    one, key = _choose(candidates)
    if key is None:
        raise UserError(
            f"Task {task} has single-task runs of {len(candidates)} configurations, and not all have a primary "
            f"metric on split val to choose the baseline by, e.g. {runs[0].path}. "
            "Keep the runs of one configuration."
        )
    return key, one


def _multi_task(runs: Sequence[Run], identities: Mapping[Path, Identity], hashes: Sequence[str]) -> list[Method]:
    """One method a configuration; one of them stands for its strategy, setting, task selection and data."""
    groups: dict[tuple[str, str, tuple[str, ...], str], dict[Identity, list[Run]]] = {}
    for run in runs:
        strategy, _, data = identity = identities[run.path]
        group = strategy, run.setting_hash, tuple(sorted(run.tasks)), data
        groups.setdefault(group, {}).setdefault(identity, []).append(run)
    names = [strategy for (strategy, *_), candidates in groups.items() for _ in candidates]
    rows: list[tuple[Identity, Method]] = []
    for (strategy, *_), candidates in groups.items():
        one, key = _choose(candidates)
        for identity, same in candidates.items():
            if names.count(strategy) == 1:
                rows.append((identity, Method(strategy, tuple(same))))
                continue
            mark = "" if key == identity else ", not chosen"
            label, note = f"{strategy} ({_named(identity, hashes)}{mark})", f"configuration of {same[0].path}"
            unsettled = f"{len(candidates)} configurations of {strategy}, and {one.note}" if key is None else ""
            if key is None:
                note += f"; not ranked: {unsettled}"
            elif key != identity:
                note += f"; not ranked: a candidate that was not chosen ({NOT_CHOSEN})"
            elif len(candidates) > 1:
                note += f"; {_how(one)}"
            rows.append((identity, Method(label, tuple(same), note=note, stands=key == identity, unsettled=unsettled)))
    return [method for _, method in sorted(rows, key=lambda row: (row[0], str(row[1].runs[0].path)))]


def _choose(candidates: Mapping[Identity, Sequence[Run]]) -> tuple[Chosen, Identity | None]:
    """The choice of the tables of papers; the identity is None if nothing could be chosen."""
    keys = {" ".join(identity): identity for identity in sorted(candidates)}
    one = choose({text: list(candidates[key]) for text, key in keys.items()}, len(keys), complete=True)
    if one is None or one.note:
        return one or Chosen("", (), 0, 0, True, "no runs"), None
    return one, keys[one.choice]


def _how(one: Chosen) -> str:
    """How a configuration was chosen, in words."""
    if one.compared == 1:
        return f"the one of {one.candidates} configurations with the most completed seeds"
    among = "" if one.compared == one.candidates else f", among the {one.compared} with the most completed seeds"
    lacking = f", {one.undefined} without a defined metric on val" if one.undefined else ""
    return f"chosen on val of {one.candidates} configurations{among}{lacking}"


def _named(identity: Identity, hashes: Sequence[str]) -> str:
    _, config, data = identity
    return _short(config, hashes) + (f", data {data[:6]}" if data else "")


def _short(value: str, others: Sequence[str]) -> str:
    """The shortest beginning of `value`, at least 6 characters, that no other hash shares."""
    for length in range(6, len(value)):
        if sum(other.startswith(value[:length]) for other in others) == 1:
            return value[:length]
    return value
