"""What runs recorded while they trained, joined over seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtl.errors import UserError
from mtl.results.runs import Method, Run
from mtl.results.statistics import mean, sample_sd
from mtl.results.styles import method_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVERY = "tracking.diagnostics.every=20"
Curve = Mapping[int, Sequence[float]]
"""Step -> value of each run."""


@dataclass(frozen=True)
class Trace:
    """Multi-task runs that differ in the seed alone, and what each recorded: one mapping of step to value a run."""

    label: str
    runs: tuple[Run, ...]
    records: tuple[Mapping[int, Any], ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(self.runs[0].tasks)

    def curve(self, value: Callable[[Any], float | None]) -> dict[int, list[float]]:
        """A number of each record, at the steps at which every run has it."""
        columns = [{step: value(record) for step, record in records.items()} for records in self.records]
        known = [{step: number for step, number in column.items() if number is not None} for column in columns]
        steps = set.intersection(*(set(column) for column in known)) if known else set()
        return {step: [column[step] for column in known] for step in sorted(steps)}


def traces(
    methods: Sequence[Method], name: str, key: str | Sequence[str], settings: str = EVERY, event: str = "diagnostics"
) -> list[Trace]:
    """The completed multi-task runs that recorded `key`, by method.

    Args:
        methods: With runs of one setting.
        name: The figure, for messages.
        key: Field of the events; or several, and a record is then an event that has them all.
        settings: What to set so that runs record it.
        event: Kind of the events.

    Raises:
        UserError: There are no such runs, they are of several settings, or none recorded it.
    """
    several = [run for method in methods for run in method.completed if not run.is_single_task]
    if not several:
        raise UserError(f"Figure {name} needs completed multi-task runs. Found none. Train some with {settings}.")
    _check_one_setting(several, name)
    keys = [key] if isinstance(key, str) else list(key)
    found = []
    for method in methods:
        runs = [run for run in method.completed if not run.is_single_task]
        pairs = [(run, dict(_records(run, keys, event))) for run in runs]
        having = [(run, records) for run, records in pairs if records]
        if having:
            values = [
                {step: one[key] if isinstance(key, str) else one for step, one in records.items()}
                for _, records in having
            ]
            found.append(Trace(method.label, tuple(run for run, _ in having), tuple(values)))
    if not found:
        raise UserError(
            f"Figure {name} draws `{', '.join(keys)}` of `{event}` events, and none of these {len(several)} runs has "
            f"them, e.g. {several[0].path}. Run again with {settings}; a method that has no such quantity never will."
        )
    return found


def _records(run: Run, keys: Sequence[str], event: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of a step recorded twice (a resumed run) the later one stands, because it comes later."""
    for one in run.events(event):
        if all(one.get(key) is not None for key in keys):
            yield int(one["step"]), one


def _check_one_setting(runs: Sequence[Run], name: str) -> None:
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(run.setting_hash, []).append(run)
    if len(settings) > 1:
        lines = "\n".join(
            f"  {len(same)} runs of experiment `{same[0].experiment}` on {same[0].dataset}, e.g. {same[0].path}"
            for same in settings.values()
        )
        raise UserError(
            f"Figure {name} shows runs of one setting (data, network, protocol). Found {len(settings)}:\n{lines}\n"
            "Name one with `experiment=...`, or give the directory of one."
        )


def styles_of(found: Sequence[Trace]) -> dict[str, tuple[str, str]]:
    """Colour and marker by label."""
    return method_styles([trace.label for trace in found])


def seeds_text(found: Sequence[Trace]) -> str:
    """How many seeds the means are of."""
    counts = sorted({len({run.seed for run in trace.runs}) for trace in found})
    return "one seed" if counts == [1] else f"mean ± sd, seeds: {' to '.join(map(str, counts[:1] + counts[1:][-1:]))}"


def draw_curve(axes: "Axes", curve: Curve, label: str, color: str, marker: str, dashes: Any = "-") -> None:
    """Mean over runs with a band of one standard deviation."""
    if not curve:
        return
    steps = list(curve)
    centre = [mean(values) for values in curve.values()]
    spread = [sample_sd(values) or 0.0 for values in curve.values()]
    every = max(1, len(steps) // 6)
    style: dict[str, Any] = {"marker": marker, "markevery": every, "markersize": 4, "linewidth": 1.2}
    axes.plot(steps, centre, color=color, linestyle=dashes, label=label, **style)
    low, high = ([c + sign * s for c, s in zip(centre, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)


def handles_of(panels: Sequence["Axes"]) -> dict[str, Any]:
    """Label -> handle over all panels."""
    return {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
