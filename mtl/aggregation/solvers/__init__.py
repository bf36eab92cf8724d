"""Solvers for the small problems: m x m numbers, float64, certified or counted."""

from mtl.aggregation.solvers.min_norm import Solution, active_set, duality_gap, frank_wolfe, projected_gradient

__all__ = ["Solution", "active_set", "duality_gap", "frank_wolfe", "projected_gradient"]
