"""The page: one table over all methods, then a section for each."""

import re
from collections.abc import Mapping, Sequence

import yaml

from mtl.config.catalog import Method, catalog

from .cost import Cost, measure

INTRO = """\
# Strategies

Written by `make docs-strategies` from the methods' docstrings, their files in `configs/strategy`, measurements and the
table of exceptions; not by hand. A test compares.

- **family**, what makes the update:
  - loss weighting: one weighted sum of the losses;
  - Gramian: a weighted sum of the task gradients, weights from their inner products;
  - Jacobian: a combination that needs the task gradients themselves;
  - sequential: one update after another, for each group of tasks;
  - simultaneous: an optimizer for each task, their updates summed;
  - double sampling: as Gramian, with inner products between independent samples, parts of one batch;
  - bilevel: weights trained on the validation split, which is not trained on otherwise;
  - model: a part between backbone and heads, or within the backbone, that differs by task;
  - affinity: the summed losses, while it is measured which tasks help each other.
- **level**: where task gradients are compared, the default first. At `features` and `last_layer` there is 1 backbone
  backward a step.
- **cost** of one step: forwards of the backbone, head backwards (of a task's loss through its head), backbone
  backwards, optimizer steps on shared parameters, samples read. Measured with m = 2 to 5 tasks at the defaults, the
  dearest of three steps (some methods measure in some steps only), and equal to what hooks count (law 9).
- **state**: floats kept between steps beyond the network and what one Adam for all tasks keeps, in a network without
  BatchNorm.
- Letters: m tasks, M groups of two (m / 2, rounded up), n shared parameters, l parameters of the last shared layer, h
  of a head, B samples in a batch, D numbers in their features, R = d (d - 1) / 2 for d features.
- **presets**: `strategy=METHOD/paper`, `strategy=METHOD/as_released`; \\* where no option differs from the method's
  own file.
- **breaks**: every method is held to the [laws](design.md#laws), at every level it has, and keeps them all, except:
{laws}

Options that every class has: `max_grad_norm` (limit of the joint norm of an update's network gradients; `null`: none)
and, for methods that combine gradients, `batch_axis` (`kept` or `summed`, at `features`), `gramian` and `ema` (how
inner products at `parameters` are found, and averaged over steps: [gramians.md](gramians.md)), `weights_every` (reuse
weights between measurements), `weighting` (a loss weighting in front; a method that has one in its file says so).
"""
COMMON = ("max_grad_norm", "batch_axis", "gramian", "ema", "weights_every", "weighting")
HEADER = ("method", "family", "source", "level", "fw", "head bw", "backbone bw", "steps", "samples", "state", "presets")
FAMILY_ORDER = (
    "loss weighting",
    "Gramian",
    "Jacobian",
    "double sampling",
    "bilevel",
    "sequential",
    "simultaneous",
    "model",
    "affinity",
)


def render(laws: Mapping[str, str], exceptions: Mapping[tuple[str, ...], str]) -> str:
    """The whole page.

    Args:
        laws: Law -> what it says.
        exceptions: (law, method[, level]) -> reason.
    """
    methods = sorted(catalog(), key=lambda method: (FAMILY_ORDER.index(method.family), method.name))
    broken = {
        method.name: [(key, why) for key, why in exceptions.items() if key[1] == method.name] for method in methods
    }
    marks = {law: chr(ord("a") + index) for index, law in enumerate(laws)}
    legend = "\n".join(f"  - ({marks[law]}) {text};" for law, text in laws.items()).removesuffix(";") + "."
    lines = [INTRO.format(laws=legend), _row((*HEADER, "breaks")), _row(["---"] * (len(HEADER) + 1))]
    lines += [
        _summary(method, measure(method.name), [marks[key[0]] for key, _ in broken[method.name]]) for method in methods
    ]
    for method in methods:
        lines += ["", *_section(method, [(laws[key[0]], key[2:], why) for key, why in broken[method.name]])]
    return "\n".join([*lines, ""])


def _summary(method: Method, cost: Cost, broken: Sequence[str]) -> str:
    keys = ("forwards", "backwards", "backbone_backwards", "optimizer_steps", "samples")
    presets = [f"{name}{'' if _delta(method, name) else chr(92) + '*'}" for name in method.presets]
    return _row(
        [
            f"[{method.name}](#{method.name})",
            method.family + (", after a loss weighting" if _has_front(method) else ""),
            _short(method.source),
            ", ".join(method.levels) or "-",
            *(cost.counts[key] for key in keys),
            cost.state,
            ", ".join(presets) or "-",
            " ".join(f"({mark})" for mark in broken) or "-",
        ]
    )


def _section(method: Method, broken: Sequence[tuple[str, tuple[str, ...], str]]) -> list[str]:
    about = method.comment.partition(" Source: ")[0]
    lines = [f"## {method.name}", "", about, "", *_description(method), f"Source: {method.source}", ""]
    lines += [_row(("option", "value", "meaning")), _row(["---"] * 3)]
    lines += [_row((f"`{path}`", f"`{value}`", comment or "-")) for path, value, comment in _options(method)]
    if method.presets or broken:
        lines.append("")
    for preset in method.presets:
        changed = ", ".join(f"`{path}: {value}`" for path, value in _leaves(_delta(method, preset)))
        lines.append(
            f"- `strategy={method.name}/{preset}`: {_comment(method, preset)}{f' {changed}' if changed else ''}"
        )
    for law, level, why in broken:
        lines.append(f'- Breaks "{law}"{f" at {level[0]}" if level else ""}: {why}.')
    if method.deviations:
        lines += ["", f"Deviations. {_inline(method.deviations)}"]
    return lines


def _has_front(method: Method) -> bool:
    return bool(method.node.get("aggregator") and method.node.get("weighting"))


def _description(method: Method) -> list[str]:
    """The docstring up to its arguments, its formulas for a Markdown reader."""
    lines: list[str] = []
    for text in method.paragraphs:
        if text.startswith(("Args:", "Source:", "**Deviations.**", "Raises", "Attributes:")):
            break
        if text.startswith(".. math::"):
            formula = " ".join(text.removeprefix(".. math::").split())
            lines += ["$$", formula, "$$", ""]
        elif text.startswith("- "):
            lines += [*_inline(text).splitlines(), ""]
        else:
            lines += [" ".join(_inline(text).split()), ""]
    return lines


def _inline(text: str) -> str:
    return re.sub(r":math:`([^`]*)`", r"$\1$", text)


def _short(source: str) -> str:
    """`Yu et al. 2020` from `Yu, Kumar, ... and Finn, "Title", NeurIPS 2020, ...`."""
    authors, found, rest = source.partition(', "')
    if not found:
        return re.split(r"[;.]", source)[0]
    names = re.split(r", | and ", authors)
    who = authors if len(names) <= 2 else f"{names[0]} et al."
    year = re.search(r"\b(?:19|20)\d\d\b(?!\.\d)", re.sub(r"arXiv:\S+", "", rest))
    return f"{who} {year.group()}" if year else who


def _options(method: Method) -> list[tuple[str, str, str]]:
    """(path, value, comment) of the options that are this method's own, from its file."""
    found: list[tuple[str, str, str]] = []
    parents = [(-1, "", "")]
    for line in method.path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( *)(\w+):\s*([^#]*?)\s*(?:#\s*(.*))?$", line)
        if match is None:
            continue
        indent, key, value, comment = len(match[1]), match[2], match[3], match[4] or ""
        while parents[-1][0] >= indent:
            parents.pop()
        path = f"{parents[-1][1]}.{key}".lstrip(".")
        if not value:
            parents.append((indent, path, comment))
        elif key == "_target_":
            name = value.rpartition(".")[2]
            _, parent, about = parents[-1]
            if parent and name != method.documented.__name__:  # the strategy's class and the method's go without
                found.append((parent, name, comment or about))
        elif path not in COMMON:
            found.append((path, value, comment))
    return found


def _delta(method: Method, preset: str) -> dict[str, object]:
    node = yaml.safe_load(_preset_text(method, preset))
    return {key: value for key, value in node.items() if key != "defaults"}


def _preset_text(method: Method, preset: str) -> str:
    return (method.path.with_suffix("") / f"{preset}.yaml").read_text(encoding="utf-8")


def _comment(method: Method, preset: str) -> str:
    lines = _preset_text(method, preset).splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def _leaves(node: Mapping[str, object], start: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in node.items():
        path = f"{start}.{key}".lstrip(".")
        found += _leaves(value, path) if isinstance(value, dict) else [(path, value)]
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
