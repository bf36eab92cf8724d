"""The one table of exceptions from the laws: which law, which method (and level, if at one only), and why.

The tests of `test_laws.py` and `test_law_12.py` read it, and fail where an exception is none (any more);
docs/strategies.md prints it.
"""

import yaml

from mtl.config.plugins import plugin_packages
from tests.problems import VARIANTS

LAWS = {
    "single_task": "one task is plain single-task training",
    "reordering": "reordering the tasks changes nothing",
    "batch_norm": "BatchNorm statistics are the layer's own, and move once a step",
    "whole_batch": "BatchNorm statistics are those of the whole batch",
    "moves_with_a_zero_gradient": "a zero gradient of one task does not stop the others",
    "moves_with_opposite_gradients": "opposite gradients of two tasks do not stop the third",
}
"""The laws that some method breaks with good reason."""

EXCEPTIONS: dict[tuple[str, ...], str] = {
    ("single_task", "uncertainty"): "weights its only task by exp(-s), and s is learned",
    ("single_task", "imtl_l"): "weights its only task by exp(s), and s is learned",
    ("single_task", "imtl"): "as imtl_l",
    ("single_task", "moco"): "follows its tracked gradient",
    ("single_task", "db_mtl"): "follows its averaged gradient of the log loss",
    ("single_task", "modo"): "updates from a third of the batch",
    ("single_task", "sdmgrad"): "updates from a third of the batch",
    ("single_task", "auto_lambda"): "weights its only task by a number that starts at 0.1 and is learned",
    ("single_task", "si"): "weights its only task by 1 / loss",
    ("single_task", "stch"): "weights its only task by 1 / loss, in the warm-up and after it",
    ("single_task", "dtp"): "weights its only task by how well it does",
    ("single_task", "cagrad"): "its only gradient times (1 + c) / (1 + c^2): average and worst task are the same",
    ("single_task", "nash_mtl"): "gives its only gradient the norm 1",
    ("single_task", "fairgrad"): "gives its only gradient another norm",
    ("reordering", "rlw"): "draws one weight per task position",
    ("reordering", "pcgrad"): "draws task orders",
    ("reordering", "gradvac"): "draws task orders",
    ("reordering", "igd"): "updates the tasks in their order",
    ("reordering", "igd_per_task"): "updates the tasks in their order",
    ("reordering", "random_groups"): "draws groups by position",
    ("reordering", "selective_groups"): "shuffles its groups",
    ("reordering", "random"): "draws one weight per task position",
    ("reordering", "torchjd"): "its default method, GradVac, draws task orders",
    ("reordering", "heterogeneous_groups"): "deals the tasks of a kind by their order",
    ("reordering", "maximum_roaming"): "draws masks by position",
    ("whole_batch", "modo"): "updates from the last third of the batch, and moves BatchNorm statistics by it",
    ("whole_batch", "sdmgrad"): "updates from the last third of the batch, and moves BatchNorm statistics by it",
    ("batch_norm", "maximum_roaming"): "sees other activations for every task, and keeps statistics for each",
    ("moves_with_a_zero_gradient", "mgda"): "a zero gradient is the min-norm vector: Pareto-stationary",
    ("moves_with_a_zero_gradient", "mgda_ub"): "as mgda",
    ("moves_with_a_zero_gradient", "cr_mogm"): "its default inner method is mgda",
    ("moves_with_opposite_gradients", "mgda"): "the hull holds 0",
    ("moves_with_opposite_gradients", "mgda_ub"): "the hull holds 0",
    ("moves_with_opposite_gradients", "cr_mogm"): "its default inner method is mgda",
    ("moves_with_opposite_gradients", "nash_mtl"): "no step gains for both: no bargain, J^T a = 0",
    ("moves_with_opposite_gradients", "fairgrad"): "as nash_mtl",
    (
        "moves_with_opposite_gradients",
        "imtl",
    ): "as imtl_g",
    (
        "moves_with_opposite_gradients",
        "imtl_g",
    ): "0 is the only combination with equal projections on g, -g and a third",
}
"""(law, method) or (law, method, level) -> reason."""

for directory in plugin_packages().values():
    if (directory / "law_exceptions.yaml").is_file():  # law -> method -> reason
        own = yaml.safe_load((directory / "law_exceptions.yaml").read_text(encoding="utf-8"))
        EXCEPTIONS |= {(law, method): why for law, methods in own.items() for method, why in methods.items()}


def excused(law: str, variant: str) -> bool:
    """Whether a variant (a key of `VARIANTS`) is excepted from a law."""
    assert law in LAWS, f"{law} is no key of LAWS"
    name, level = VARIANTS[variant].name, VARIANTS[variant].level
    return (law, name) in EXCEPTIONS or (law, name, level) in EXCEPTIONS


def hint(law: str, variant: str) -> str:
    """What to do where a law fails for a method that breaks it by definition."""
    place = f"{__file__}, or to law_exceptions.yaml of a package of your own"
    return f"A bug; or, if it lies in the method: add ({law!r}, {VARIANTS[variant].name!r}) to {place}"


WITHOUT_PAPER = {
    "uniform": "no paper's method",
    "static": "no paper's method",
    "fixed_groups": "no paper's method: the groups are the user's",
    "heterogeneous_groups": "ours",
    "torchjd": "a bridge to a package; its methods have a paper each",
}
"""Methods without a preset `paper`, and why."""

WITHOUT_AS_RELEASED = {
    "con_fig": "the released code gets the same numbers by another route",
    "igd_per_task": "no option differs from the released code",
    "random_groups": "the released code differs in its generator only",
}
"""Methods whose docstring speaks of released code that differs, without a preset `as_released`, and why."""

SAME = {
    ("adatask", "mao"): "the same rule by another name",
    ("fixed_groups", "static"): "the default is one group of all tasks, and weights of 1",
    ("fixed_groups", "tag_affinity"): "the default is one group of all tasks; measuring does not touch the training",
    ("fixed_groups", "uniform"): "the default is one group of all tasks",
    ("static", "tag_affinity"): "the default weights are 1; measuring does not touch the training",
    ("static", "uniform"): "the default weights are 1",
    ("tag_affinity", "uniform"): "measuring does not touch the training",
}
"""Pairs of methods, in alphabetical order, that do the same at their defaults, and why."""
