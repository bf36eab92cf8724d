"""The top of the page: what there is, and what it says, in words."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from mtl.results.noise import ALPHA, EQUAL, NO_SPREAD, ONE_SEED, UNDEFINED
from mtl.results.report.differences import Verdicts, unsettled_reference, verdicts
from mtl.results.report.markup import joined, tag
from mtl.results.report.material import Material
from mtl.results.report.numbers import counted, fixed, listed, signed
from mtl.results.report.times import step_times


def summary(material: Material) -> Markup:
    """What there is, what it says, and what to know before reading on."""
    opening = tag("p", _opening(material), class_="lead")
    return joined([opening, _facts(material), _findings(material), _warnings(material), _commands(material)])


def _opening(material: Material) -> str:
    """Runs, methods, seeds and length in one sentence."""
    runs = material.runs
    seeds = sorted({len(row.seeds) for row in material.competitors or material.rows})
    epochs = sorted({run.epochs for run in runs if run.completed})
    lost = Counter(run.status for run in runs if not run.completed)
    methods = counted(len(material.competitors), "multi-task method")
    single = any(row.method.runs[0].is_single_task for row in material.rows)
    beside = " and single-task training" if single else ""
    length = f", {_range(epochs, 'epoch')}" if epochs else ""
    ended = ", ".join(f"{count} {status}" for status, count in sorted(lost.items()))
    done = f"{len(runs) - lost.total()} completed, {ended}" if lost else "all completed"
    more = f" ({counted(len(material.candidates), 'further configuration')} not ranked)" if material.candidates else ""
    return f"{counted(len(runs), 'run')} of {methods}{more}{beside}: {_range(seeds, 'seed')} a method{length}; {done}."


def _range(values: Sequence[int], noun: str) -> str:
    """Smallest and largest of ascending values: 1 seed, 3 seeds, 2 to 5 seeds."""
    if len(values) > 1:
        return f"{values[0]} to {values[-1]} {noun}s"
    return counted(values[0] if values else 0, noun)


def _facts(material: Material) -> Markup:
    """What all numbers rest on."""
    runs = material.runs
    tasks = material.tasks
    facts = {
        "network": _values(f"{run.backbone} + {run.heads}" for run in runs),
        "tasks": ", ".join(tasks) if len(tasks) <= 5 else str(len(tasks)),
        "optimizer": _values(run.optimizer or "unknown" for run in runs),
        "split": material.comparison.split,
        "selection": _values(str(run.selection.get("rule", "unknown")) for run in runs if run.completed) or "none",
        "experiment": _values(run.experiment or "none" for run in runs),
    }
    return tag("dl", [tag("div", tag("dt", what), tag("dd", value)) for what, value in facts.items()], class_="facts")


def _values(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _findings(material: Material) -> Markup:
    found = verdicts(material)
    sentences = [*_on_single_task(material)]
    for one in found:
        same = one is not found[0] and material.has_delta_m and _same_verdicts(one, found[0])
        sentences += [f"{one.measure.title}: the same verdicts."] if same else _on_reference(one)
    if not found:
        sentences.append(_why_no_verdict(material))
    sentences += _on_cost(material)
    return tag("ul", [tag("li", sentence) for sentence in sentences], class_="findings")


def _on_single_task(material: Material) -> list[str]:
    """Which method has the best mean Delta_m, and how many are above 0, in each definition."""
    best, above = [], []
    for title in material.comparison.delta_m:
        rows = [row for row in material.competitors if title in row.delta_m]
        if not rows:
            return []
        top = max(rows, key=lambda row: (row.delta_m[title].mean, row.label))
        cell = top.delta_m[title]
        spread = "" if cell.sd is None else f" ± {fixed(cell.sd, 2)}"
        kind = title.removeprefix("Delta_m").strip(" ()")
        best.append(f"{top.label} with {signed(cell.mean)}{spread} %" + (f" ({kind})" if kind else ""))
        above.append(f"{sum(row.delta_m[title].mean > 0 for row in rows)} of {len(rows)}")
    counts = above[0] if len(set(above)) == 1 else " and ".join(above)
    return [
        f"Largest mean Delta_m against single-task training: {'; '.join(best)}. Methods with a mean above 0: {counts}."
    ]


_REASONS = {
    ONE_SEED: "one shared seed",
    NO_SPREAD: "differences without a spread over seeds",
    EQUAL: "equal values in every seed",
    UNDEFINED: "undefined values",
}


def _same_verdicts(one: Verdicts, other: Verdicts) -> bool:
    return all(set(one.beyond_noise(sign)) == set(other.beyond_noise(sign)) for sign in (1, -1)) and (
        set(one.surviving) == set(other.surviving)
    )


def _on_reference(found: Verdicts) -> list[str]:
    """Which differences to the reference exceed seed noise, and which of them survive the number of comparisons."""
    reference, measure, tested = found.reference.label, found.measure.title, len(found.adjusted)
    if not tested:
        kinds = dict.fromkeys(_REASONS.get(one.verdict, one.verdict) for one in found.differences.values())
        return [f"{measure}, against {reference}: {', '.join(kinds)}, so no difference can be told from seed noise."]
    better, worse = found.beyond_noise(1), found.beyond_noise(-1)
    if not better and not worse:
        one = "it" if tested == 1 else f"none of {tested} methods"
        return [
            f"{measure}, against {reference}: {one} differs by {'no ' if tested == 1 else ''}more than seed noise "
            "(95 % interval of Student's t over runs with the same seed)."
        ]
    parts = []
    for names, word in ((better, "better"), (worse, "worse")):
        values = [f"{name} ({signed(found.differences[name].mean)})" for name in names]
        parts += [f"{word} {'is' if len(names) == 1 else 'are'} {listed(values, 6)}"] if names else []
    beyond, surviving = len(better) + len(worse), len(found.surviving)
    kept = {0: "none", beyond: "all" if beyond > 1 else "it"}.get(surviving, str(surviving))
    chance = f"; about {fixed(ALPHA * tested, 1)} would by chance alone" if tested >= 10 else ""
    return [
        f"{measure}, against {reference}: {beyond} of {counted(tested, 'method')} "
        f"{'differs' if beyond == 1 else 'differ'} by more than seed noise{chance}; {'; '.join(parts)}. After Holm's "
        f"correction for {tested} comparisons {kept} {'remains' if kept in ('none', 'it', '1') else 'remain'}."
    ]


def _why_no_verdict(material: Material) -> str:
    if unsettled := unsettled_reference(material):
        return f"No verdicts about seed noise, for want of a reference: {unsettled}."
    if len(material.competitors) < 2:
        return "There is no second multi-task method to compare with."
    return "No two methods share a seed with completed runs, so nothing can be said about seed noise."


def _on_cost(material: Material) -> list[str]:
    measure, found = step_times(material)
    times = {row.label: found[row.label] for row in material.competitors if row.label in found}
    if len(times) < 2:
        return []
    low, high = min(times, key=lambda label: times[label]), max(times, key=lambda label: times[label])
    factor = times[high] / times[low]
    return [
        f"Cheapest step: {low} with {fixed(times[low], 1)} {measure}; most expensive: {high} with "
        f"{fixed(times[high], 1)}, {fixed(factor, 1)} times as much."
    ]


def _warnings(material: Material) -> Markup | None:
    notes = [n.removeprefix("WARNING: ") for n in material.comparison.footnotes if n.startswith("WARNING:")]
    lost = {f"{row.label}, seed {run.seed}, {run.status}" for row in material.rows for run in row.method.runs}
    notes = [note for note in notes if not any(note.startswith(text) for text in lost)]
    few = [row.label for row in material.competitors if 0 < len(row.seeds) < 3]
    if few:
        notes.append(
            f"Fewer than three seeds: {listed(few)}. An interval from two seeds is wide, one seed has none: small "
            "differences cannot be told from noise."
        )
    undefined = [row.label for row in material.rows if any(math.isnan(cell.mean) for cell in row.values.values())]
    if undefined and not any("undefined" in note for note in notes):
        notes.append(f"Undefined metrics: {listed(undefined)}.")
    if not notes:
        return None
    items = [tag("li", note[:1].upper() + note[1:]) for note in notes]
    return tag("div", tag("h3", "Before you read on"), tag("ul", items), class_="warnings", role="note")


def _commands(material: Material) -> Markup | None:
    """How to make missing single-task runs."""
    if not material.commands:
        return None
    lines = [tag("pre", tag("code", command), tabindex=0) for command in material.commands]
    intro = "Single-task runs are missing, so Delta_m is empty. These commands make them, for the same directory:"
    return tag("div", tag("h3", "Missing baselines"), tag("p", intro), lines, class_="missing")
