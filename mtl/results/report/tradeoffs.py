"""The sections with scatters: Delta_m against time per step, and one task against the other."""

import math

from mtl.results.comparison import Column, Row
from mtl.results.rendering import decimals
from mtl.results.report.material import Material, Section, unit
from mtl.results.report.numbers import fixed, signed, spread
from mtl.results.report.scatter import Dot, Titles, scatter
from mtl.results.report.times import CPU, WALL, step_times

_HOW = {
    WALL: "Times are of the clock, on the machines named under protocol;",
    CPU: "Times are what all threads computed, so other work on the machine does not count;",
}
LOG_FROM = 8.0
"""Range of times, largest over smallest, from which their axis is logarithmic."""


def time_section(material: Material) -> Section | None:
    """What a method gains against what its step costs."""
    title = material.comparison.delta_m[0]
    measure, step = step_times(material)
    rows = [row for row in material.rows if row.method.stands and title in row.delta_m and row.label in step]
    if not any(not row.method.is_baseline for row in rows):
        return None
    times = [step[row.label] for row in rows]
    log = max(times) / min(times) > LOG_FROM
    dots = []
    for row in rows:
        cell, time = row.delta_m[title], step[row.label]
        gain = signed(cell.mean) + ("" if cell.sd is None else f" ± {fixed(cell.sd, 2)}")
        tip = f"{row.label}: Delta_m {gain} %, {fixed(time, 1)} {measure}"
        x = math.log10(time) if log else time
        dots.append(Dot(material.looks[row.label], x, cell.mean, (None, cell.sd), (), tip))
    titles = Titles(f"{measure} ↓", "Delta_m, % ↑", f"Delta_m against {measure}.", (-1, 1))
    aid = (
        "Up is better, left is cheaper; the line joins methods that no other one beats in both. Whiskers: one standard "
        f"deviation over seeds. {_HOW[measure]} single-task adds up its networks."
    )
    body = scatter(dots, titles, guides=(None, 0.0), log=log)
    return Section("time", "Gain against time per step", aid, body)


def tasks_section(material: Material) -> Section | None:
    """Task against task, if there are two."""
    if len(material.tasks) != 2:
        return None
    columns = {column.task: column for column in material.comparison.columns if column.primary}
    if len(columns) != 2:
        return None
    x, y = (columns[task] for task in material.tasks)
    rows = [row for row in material.rows if row.method.stands and _defined(row, x) and _defined(row, y)]
    if not any(not row.method.is_baseline for row in rows):
        return None
    places = (decimals(material.rows, x), decimals(material.rows, y))
    dots = []
    for row in rows:
        tip = f"{row.label}: {x.task} {spread(row.values[x], places[0])}, {y.task} {spread(row.values[y], places[1])}"
        seeds = tuple((v[x], v[y]) for v in row.per_seed.values() if x in v and y in v)
        sd = (row.values[x].sd, row.values[y].sd)
        dots.append(Dot(material.looks[row.label], row.values[x].mean, row.values[y].mean, sd, seeds, tip))
    baseline = next((row for row in rows if row.method.is_baseline), None)
    guides = (None, None) if baseline is None else (baseline.values[x].mean, baseline.values[y].mean)
    titles = Titles(_title(x), _title(y), f"{x.task} against {y.task}.", (_sign(x), _sign(y)))
    where = f"{'top' if y.higher_is_better else 'bottom'} {'right' if x.higher_is_better else 'left'}"
    aid = (
        f"The {where} is better; the line joins methods that no other one beats on both tasks (by their means). Large "
        "markers: mean ± one standard deviation; small dots: seeds."
    )
    if baseline is not None:
        aid += " Dashed: single-task training."
    return Section("tasks", f"{x.task} against {y.task}", aid, scatter(dots, titles, guides=guides))


def _defined(row: Row, column: Column) -> bool:
    return column in row.values and math.isfinite(row.values[column].mean)


def _title(column: Column) -> str:
    return f"{column.task}: {column.metric}{unit(column.metric)} {'↑' if column.higher_is_better else '↓'}"


def _sign(column: Column) -> int:
    return 1 if column.higher_is_better else -1
