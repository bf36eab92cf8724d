"""Groupings: which tasks are updated together. One file a method; torch only, and scikit-learn for its clustering."""

from mtl.grouping.affinity import SelectiveGroups
from mtl.grouping.base import Group, Grouping
from mtl.grouping.fixed import FixedGroups
from mtl.grouping.heterogeneous import HeterogeneousGroups
from mtl.grouping.random import RandomGroups
from mtl.grouping.selection import Selection, select_groups
from mtl.grouping.singletons import Singletons

__all__ = [
    "FixedGroups",
    "Group",
    "Grouping",
    "HeterogeneousGroups",
    "RandomGroups",
    "Selection",
    "SelectiveGroups",
    "Singletons",
    "select_groups",
]
